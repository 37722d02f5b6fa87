//! What is left for the host: a work tree and its `.git`, full of programs that git would start for whoever looks
//! into it. The host says what came of them; in the run without that line the attacker itself plays a host that
//! looks without care.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    attack::{Attack, Category::Results, Finding},
    line::Line,
    target::Target,
};

/// What a trap that went off leaves, by the attack's name. On the host nobody else writes there.
pub(crate) fn sprung(home: &Path, attack: &str) -> PathBuf {
    home.join("sprung").join(attack)
}

macro_rules! trap {
    ($name:literal, $tries:literal, $set:expr, $careless:literal) => {
        Attack {
            name: $name,
            category: Results,
            tries: $tries,
            line: Line::CleanRepository,
            act: |target| left(target, $name, $set, $careless),
        }
    };
}

/// `$MARK` is what a trap makes.
pub(crate) const ATTACKS: &[Attack] = &[
    trap!("hooks", "hooks in .git", HOOKS, "git checkout -q -b careless"),
    trap!(
        "hooks-path",
        "hooks elsewhere, by core.hooksPath",
        HOOKS_PATH,
        "git commit -q --allow-empty -m careless"
    ),
    trap!("fsmonitor", "core.fsmonitor", "git config core.fsmonitor \"touch '$MARK' #\"", "git status"),
    trap!("include", "include.path, with core.fsmonitor", INCLUDE, "git status"),
    trap!("filters", "filters that .gitattributes names", FILTERS, "git add -A"),
    trap!("diff-driver", "a program that diffs", DIFF, "git diff"),
    trap!("ssh-command", "core.sshCommand and a remote", SSH, "git fetch evil"),
    trap!("ext-transport", "a remote that is a program", EXT, "git fetch evil-ext"),
    trap!("alias", "an alias", "git config alias.st \"!touch '$MARK'\"", "git st"),
    trap!(
        "submodule",
        "a submodule that is updated by a program",
        SUBMODULE,
        "git -c protocol.file.allow=always submodule update --init"
    ),
    trap!(
        "dash-names",
        "files that programs take for options",
        NAMES,
        "cd names && rm * && [ ! -e folder ] && touch \"$MARK\""
    ),
    trap!(
        "link-to-etc",
        "a link to /etc in the tree",
        "ln -sfn /etc evil-link",
        "[ -e evil-link/passwd ] && touch \"$MARK\""
    ),
    trap!(
        "odd-refs",
        "branches and tags beside the one",
        REFS,
        "git for-each-ref | grep -q evil && touch \"$MARK\""
    ),
];

const HOOKS: &str = r#"
mkdir -p .git/hooks
for hook in pre-commit post-checkout post-commit reference-transaction post-index-change; do
    printf '#!/bin/sh\ntouch "%s"\n' "$MARK" >.git/hooks/$hook; chmod +x .git/hooks/$hook
done"#;
const HOOKS_PATH: &str = r#"
mkdir -p evil-hooks; printf '#!/bin/sh\ntouch "%s"\n' "$MARK" >evil-hooks/post-commit; chmod +x evil-hooks/post-commit
git config core.hooksPath "$PWD/evil-hooks""#;
const INCLUDE: &str =
    r#"printf '[core]\n\tfsmonitor = touch "%s" #\n' "$MARK" >.git/evil; git config include.path evil"#;
const FILTERS: &str = r#"
printf '*.evil filter=evil\n' >.gitattributes; echo x >a.evil
git config filter.evil.clean "touch '$MARK'; cat"; git config filter.evil.smudge "touch '$MARK'; cat""#;
const DIFF: &str = r#"git config diff.external "touch '$MARK' #"; echo more >>README"#;
const SSH: &str =
    r#"git config core.sshCommand "touch '$MARK' #"; git remote add evil ssh://localhost/evil || true"#;
const EXT: &str =
    r#"git config protocol.ext.allow always; git remote add evil-ext "ext::touch $MARK" || true"#;
const SUBMODULE: &str = r#"
printf '[submodule "evil"]\n\tpath = evil-module\n\turl = ./\n' >.gitmodules
git update-index --add --cacheinfo 160000,$(git rev-parse HEAD),evil-module
git config submodule.evil.url "$PWD"; git config submodule.evil.update "!touch '$MARK' #""#;
const NAMES: &str = r#"mkdir -p names/folder; cd names; : >-rf; : >"$(printf 'new\nline')"; : >"$(printf 'cr\r')"; : >folder/x"#;
const REFS: &str = r#"
git update-ref refs/heads/evil HEAD; git update-ref refs/tags/evil HEAD; git update-ref refs/replace/evil HEAD || true
git update-ref refs/code-workers/evil HEAD"#;

fn left(target: &Target, name: &str, set: &str, careless: &str) -> Finding {
    let mark = sprung(&target.home, name);
    if let Err(error) = shell(set, &mark) {
        return Finding::NotApplicable(format!("the trap cannot be set: {error}"));
    }
    if !target.careless {
        return Finding::Held("it is set".to_owned());
    }
    let _ = mark.parent().map(fs::create_dir_all);
    // What setting the trap sprang is no proof.
    let _ = fs::remove_file(&mark);
    let looked = shell(careless, &mark);
    if mark.exists() {
        Finding::Broken("it went off".to_owned())
    } else {
        Finding::Held(format!("{looked:?}"))
    }
}

fn shell(script: &str, mark: &Path) -> io::Result<()> {
    let mut command = Command::new("sh");
    // In the work tree, where a task begins.
    command.args(["-c", script]).env("MARK", mark);
    let names = ["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"];
    let output = command.envs(names.map(|name| (name, "attack"))).output()?;
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if output.status.success() { Ok(()) } else { Err(io::Error::other(said)) }
}
