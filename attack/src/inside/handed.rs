//! Results that no worker would make: uploaded with a worker's own token and lease, as if an agent had got at them,
//! and taken by the owner with `apply`. In the run without that line the attacker plays an owner who takes all that
//! comes.

use std::{fs, io, path::Path, process::Command};

use super::{
    coordinator::{REPORT, verb, workers},
    door,
};
use crate::{
    attack::{Attack, Category::Results, Finding},
    http::request_head,
    line::Line,
    target::{Leaked, Target},
};

macro_rules! hostile {
    ($name:literal, $tries:literal, $make:expr, $careless:expr) => {
        hostile!($name, "bundle", $tries, $make, $careless)
    };
    ($name:literal, $artifact:literal, $tries:literal, $make:expr, $careless:expr) => {
        Attack {
            name: $name,
            category: Results,
            tries: $tries,
            line: Line::CleanRepository,
            act: |target| handed(target, $name, $artifact, $make, $careless),
        }
    };
}

/// `$OUT` is what is made, for the task whose branch is `$REF`, from `$BASE` on; `$MARK` is what a careless owner
/// makes when it was caught.
pub(crate) const ATTACKS: &[Attack] = &[
    hostile!("ref-main", "a bundle of refs/heads/main", REF_MAIN, FETCH_ALL),
    hostile!("ref-head", "a bundle of HEAD beside the branch", REF_HEAD, FETCH_HEAD),
    hostile!("ref-other-task", "a bundle of another task's branch", REF_OTHER, FETCH_OTHER),
    hostile!("several-refs", "a bundle of many refs, its branch among them", REF_SEVERAL, FETCH_ALL),
    hostile!("dot-git", "a tree that holds .git", "tree .git", TAKE_CONFIG),
    hostile!("dot-git-case", "a tree that holds .GIT", "tree .GIT", TAKE_CONFIG),
    hostile!("dot-git-short", "a tree that holds git~1", "tree git~1", TAKE_CONFIG),
    hostile!(
        "dot-git-unicode",
        "a tree that holds .git with a letter that is not seen",
        "tree \"$(printf '.g\\342\\200\\214it')\"",
        TAKE_CONFIG
    ),
    hostile!("parent-in-tree", "a tree that holds ..", "tree ..", TAKE_CONFIG),
    hostile!("many-in-tree", "a hundred thousand files", MANY, COUNT_MANY),
    hostile!("endless-tree", "ten thousand million files in a few hundred bytes", ENDLESS, COUNT_MANY),
    hostile!("parent-in-patch", "patch", "a patch of a file above the tree", PATCH, TAKE_PATCH),
];

/// What all of them have use for.
const PRELUDE: &str = r#"
set -e
TREE=$(git rev-parse "$BASE^{tree}")
blob() { printf "$1" | git hash-object -w --stdin; }
mine() { git update-ref $REF $(git commit-tree -p $BASE -m hostile ${1:-$TREE}); }
tree() {
    config=$(printf '100644 blob %s\tconfig\n' $(blob '[core]\n') | git mktree)
    mine $(printf '040000 tree %s\t%s\0' $config "$1" | git mktree -z)
    git bundle create -q "$OUT" $BASE..$REF
}
"#;
const REF_MAIN: &str = r#"mine; git bundle create -q "$OUT.own" $BASE..$REF
sed "s,$REF,refs/heads/main," "$OUT.own" >"$OUT""#;
const REF_HEAD: &str = r#"mine; git update-ref refs/attack/head $(git rev-parse $REF)
git bundle create -q "$OUT.own" $BASE..$REF $BASE..refs/attack/head; sed 's,refs/attack/head,HEAD,' "$OUT.own" >"$OUT""#;
const REF_OTHER: &str = r#"mine; git bundle create -q "$OUT.own" $BASE..$REF
sed "s,$REF,refs/heads/code-workers/other," "$OUT.own" >"$OUT""#;
const REF_SEVERAL: &str = r#"mine; tip=$(git rev-parse $REF)
for name in heads/main tags/v1 code-workers/other replace/$BASE; do
    git update-ref refs/attack/$name $tip; names="$names $BASE..refs/attack/$name"; done
git bundle create -q "$OUT.own" $BASE..$REF $names; sed "s,refs/attack/,refs/," "$OUT.own" >"$OUT""#;
const MANY: &str = r#"x=$(blob x)
files=$(i=0; while [ $i -lt 1000 ]; do printf '100644 blob %s\t%d\n' $x $i; i=$((i+1)); done | git mktree)
mine $(i=0; while [ $i -lt 100 ]; do printf '040000 tree %s\t%d\n' $files $i; i=$((i+1)); done | git mktree)
git bundle create -q "$OUT" $BASE..$REF"#;
const ENDLESS: &str = r#"object=$(blob x); kind='100644 blob'
for level in 1 2 3 4 5 6 7 8 9 10; do
    object=$(for name in 0 1 2 3 4 5 6 7 8 9; do printf '%s %s\t%d\n' "$kind" $object $name; done | git mktree)
    kind='040000 tree'; done
mine $object; git bundle create -q "$OUT" $BASE..$REF"#;
const PATCH: &str =
    r#"printf '%s\n' '--- /dev/null' "+++ b/../attack-escaped-$$" '@@ -0,0 +1 @@' '+x' >"$OUT""#;

const FETCH_ALL: &str =
    r#"fetch '+refs/*:refs/*'; [ "$(git -C "$HERE" rev-parse main)" != $BASE ] && touch "$MARK""#;
const FETCH_HEAD: &str =
    r#"fetch HEAD:refs/heads/from-head; git -C "$HERE" rev-parse from-head && touch "$MARK""#;
const FETCH_OTHER: &str =
    r#"fetch '+refs/*:refs/*'; git -C "$HERE" rev-parse code-workers/other && touch "$MARK""#;
/// What an unpacked tree would have put in place.
const TAKE_CONFIG: &str = r#"fetch '+refs/*:refs/*'; git -C "$HERE" ls-tree -r -z --name-only $REF | tr '\0' '\n' | grep -q '/config' && touch "$MARK""#;
const COUNT_MANY: &str = r#"fetch '+refs/*:refs/*'
[ "$(git -C "$HERE" ls-tree -r $REF | head -n 100000 | grep -c .)" = 100000 ] && touch "$MARK""#;
const TAKE_PATCH: &str =
    r#"cd "$HERE"; git apply --unsafe-paths --directory="$HERE" "$OUT" && touch "$MARK""#;
/// A repository of the careless owner's.
const CARELESS: &str = r#"
git init -q -b elsewhere "$HERE"; git -C "$HERE" fetch -q "$WORK" $BASE:refs/heads/main
fetch() { git -C "$HERE" fetch -q "$OUT" "$@"; }
"#;

fn handed(target: &Target, name: &str, artifact: &str, make: &str, careless: &str) -> Finding {
    let none = Leaked::default();
    let leaked = target.handed.get(name).unwrap_or(&none);
    if leaked.task.is_empty() && !target.careless {
        return Finding::NotApplicable("there is no task to report for".to_owned());
    }
    // Where git does not look for changes.
    let folder = std::env::current_dir().unwrap_or_default().join(".git/attack-handed").join(name);
    let (out, mark) = (folder.join("out"), folder.join("mark"));
    let made = fs::create_dir_all(&folder)
        .and_then(|()| run(&format!("{PRELUDE}{make}"), &folder, &leaked.task))
        .and_then(|()| fs::read(&out));
    let bytes = match made {
        Ok(bytes) => bytes,
        Err(error) => return Finding::NotApplicable(format!("it cannot be made: {error}")),
    };
    if !target.careless {
        let told = upload(leaked, artifact, &bytes, &out);
        let _ = fs::remove_dir_all(&folder);
        return match told {
            Ok(()) => Finding::Held("it is handed over".to_owned()),
            Err(error) => Finding::NotApplicable(format!("it cannot be handed over: {error}")),
        };
    }
    let took = run(&format!("{CARELESS}{careless}"), &folder, &leaked.task);
    if mark.exists() {
        Finding::Broken("it was taken".to_owned())
    } else {
        Finding::Held(format!("{took:?}"))
    }
}

fn run(script: &str, folder: &Path, task: &str) -> io::Result<()> {
    let base = Command::new("git").args(["rev-parse", "HEAD"]).output()?.stdout;
    let task = if task.is_empty() { "careless" } else { task };
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("OUT", folder.join("out")).env("MARK", folder.join("mark"));
    command.env("HERE", folder.join("here")).env("WORK", std::env::current_dir()?);
    command.env("BASE", String::from_utf8_lossy(&base).trim());
    command.env("REF", format!("refs/heads/code-workers/{task}"));
    let names = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let output = command.envs(names.map(|name| (name, "attack"))).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
}

/// As the worker would: the artifact, and then the report.
fn upload(leaked: &Leaked, artifact: &str, bytes: &[u8], file: &Path) -> io::Result<()> {
    let sum = Command::new("sha256sum").arg(file).output()?.stdout;
    let sum = String::from_utf8_lossy(&sum).split_whitespace().next().unwrap_or_default().to_owned();
    let (bearer, lease) = (format!("Bearer {}", leaked.token.text()), leaked.lease.text());
    let headers = [&workers(&bearer, &lease, "1")[..], &[("Code-Workers-Sha256", &*sum)]].concat();
    let path = format!("/tasks/{}/artifacts/{artifact}", leaked.task);
    let put = request_head("PUT", &path, &headers, bytes.len());
    let named =
        format!(r#","artifacts":[{{"name":"{artifact}","size":{},"sha256":"{sum}"}}]}}"#, bytes.len());
    let report = REPORT.replace('}', &named);
    let report = verb("result", &report, &leaked.task, leaked, "1");
    for request in [[put.as_bytes(), bytes].concat(), report.into_bytes()] {
        let answers = door::coordinator(&request)?;
        if !answers.any_good() {
            return Err(io::Error::other(answers.0));
        }
    }
    Ok(())
}
