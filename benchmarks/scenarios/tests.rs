use std::collections::BTreeSet;
use std::process::Command as Process;

use super::*;

#[test]
fn each_scenario_has_its_own_name_and_a_line_of_help() {
    let mut names = BTreeSet::new();
    for scenario in SCENARIOS {
        let config = Config::read(scenario.config).unwrap();
        assert!(!config.help.is_empty() && !config.help.contains('\n'));
        assert!(names.insert(config.name), "a name twice");
    }
    assert!(names.contains("stream-core") && names.contains("demo"));
}

#[test]
fn an_unknown_name_is_told_the_known_ones() {
    let error = run_named("nonsense", Given::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("`nonsense`") && error.contains("tsv-reader"),
        "{error}"
    );
}

#[test]
fn all_are_run_even_if_one_fails_and_the_failure_is_told() {
    fn good(ask: &Ask) -> anyhow::Result<Outcome> {
        std::fs::write(&ask.data[0], "ran")?;
        Ok(Outcome {
            name: "good",
            quick: ask.quick,
            simulated: true,
            metrics: Vec::new(),
            repeats: 1,
            workload: String::new(),
        })
    }
    fn bad(_: &Ask) -> anyhow::Result<Outcome> {
        anyhow::bail!("no room")
    }
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("mark");
    let scenarios = [
        Scenario {
            config: "name = \"bad\"\nhelp = \"fails\"",
            run: bad,
        },
        Scenario {
            config: "name = \"good\"\nhelp = \"works\"",
            run: good,
        },
    ];
    let given = Given {
        quick: true,
        data: std::slice::from_ref(&mark),
        ..Given::default()
    };
    let error = run_all(&scenarios, given).unwrap_err();
    assert_eq!(error.to_string(), "did not run: bad");
    assert!(mark.is_file(), "the one after it ran");
    assert!(run_all(&scenarios[1..], given).is_ok());
}

/// What make would run for these arguments, a command a line.
fn made(arguments: &[&str]) -> Vec<String> {
    let checkout = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let output = Process::new("make")
        .args(["--dry-run", "--directory", checkout])
        .args(arguments)
        // Of a make that runs the tests: its flags and its DATA are not this one's.
        .env_remove("MAKEFLAGS")
        .env_remove("DATA")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(str::to_owned).collect()
}

/// The scenarios' own arguments in one of these commands.
fn arguments(command: &str) -> Option<Command> {
    let (_, own) = command.split_once("--bin scenarios -- ")?;
    let words = std::iter::once("scenarios").chain(own.split_whitespace());
    let parsed = Arguments::try_parse_from(words).unwrap_or_else(|e| panic!("{command}: {e}"));
    Some(parsed.command)
}

#[test]
fn what_the_makefile_asks_for_is_understood() {
    let one = made(&["scenarios"]);
    assert!(matches!(
        one.iter().find_map(|line| arguments(line)),
        Some(Command::List)
    ));

    let one = made(&["scenario", "NAME=demo", "DATA=a.tsv  b c/d.gz"]);
    let Some(Command::Run {
        name, all, data, ..
    }) = one.iter().find_map(|l| arguments(l))
    else {
        panic!("{one:?}")
    };
    assert_eq!((name.as_deref(), all), (Some("demo"), false));
    assert_eq!(data, ["a.tsv", "b", "c/d.gz"].map(PathBuf::from));

    let every = made(&["bench"]);
    let Some(Command::Run {
        name, all, data, ..
    }) = every.iter().find_map(|l| arguments(l))
    else {
        panic!("{every:?}")
    };
    assert_eq!((name, all, data), (None, true, Vec::new()));

    // The demo's scenario runs the binary that lies beside this one.
    for commands in [one, every] {
        let at = |what: &str| commands.iter().position(|line| line.contains(what));
        let (built, run) = (
            at("build --quiet --release -p segue"),
            at("--bin scenarios"),
        );
        assert!(built.is_some() && built < run, "{commands:?}");
    }
}

#[test]
fn either_a_name_or_all() {
    for wrong in [&["run"][..], &["run", "demo", "--all"]] {
        let words = std::iter::once("scenarios").chain(wrong.iter().copied());
        assert!(Arguments::try_parse_from(words).is_err(), "{wrong:?}");
    }
}
