//! Whole-system scenarios: real processes, real gVisor, real agents. The scenarios are in `tests/`.
