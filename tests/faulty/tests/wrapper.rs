//! The wrapper itself: nothing of a session is lost in it, and no misspelt fault is taken for none.

#![allow(clippy::unwrap_used)]

use std::process::Command;

use faulty::Faults;

/// Names of the functions of a piece of code, in order.
fn functions(code: &str) -> Vec<&str> {
    code.lines().filter_map(|line| line.strip_prefix("    fn ")?.split(['(', '<']).next()).collect()
}

#[test]
fn every_function_of_a_session_is_forwarded() {
    let of_trait = include_str!("../../../src/backend/mod.rs").split("pub trait Session {").nth(1).unwrap();
    let of_wrapper =
        include_str!("../src/session.rs").split("impl Session for FaultySession {").nth(1).unwrap();
    let (mut wanted, mut forwarded) = (functions(of_trait), functions(of_wrapper));
    wanted.sort_unstable();
    forwarded.sort_unstable();
    assert!(wanted.contains(&"use_gemm"), "{wanted:?}");
    assert_eq!(wanted, forwarded);
    for function in wanted {
        assert!(
            of_wrapper.contains(&format!("self.real.{function}(")),
            "{function} does not reach the device"
        );
    }
}

#[test]
fn a_fault_that_is_not_known_is_refused() {
    let of = |name: &str, value: &str| Faults::of([(name.to_owned(), value.to_owned())].into_iter());
    for (name, value) in [
        ("FAULTY_SLOW", "gate_up:10%"),
        ("FAULTY_OUTPUT", "element"),
        ("FAULTY_OUTPUT", "half:lm_head"),
        ("FAULTY_MODEL", "rope:-5%"),
        ("FAULTY_MODEL", "weights:attention_norm"),
        ("FAULTY_TIMES", "negative:qkv@7"),
        ("FAULTY_PROBES", "nan"),
    ] {
        assert!(of(name, value).is_ok_and(|faults| faults != Faults::default()), "{name}={value}");
    }
    for (name, value) in [
        ("FAULTY_SLOWER", "gate_up:10%"),
        ("FAULTY_SLOW", "gate_up"),
        ("FAULTY_SLOW", "gateup:10%"),
        ("FAULTY_SLOW", "gate_up:-10%"),
        ("FAULTY_OUTPUT", "half:"),
        ("FAULTY_OUTPUT", "whole"),
        ("FAULTY_SIZE", "much"),
        ("FAULTY_MODEL", "weights:gate_up"),
        ("FAULTY_TIMES", "nan@x"),
        ("FAULTY_PROBES", ""),
    ] {
        assert!(of(name, value).is_err(), "{name}={value}");
    }
    let out = Command::new(env!("CARGO_BIN_EXE_faulty"))
        .arg("models")
        .env("FAULTY_OUTPUT", "nann")
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(101));
    assert!(out.stdout.is_empty());
}

#[test]
fn without_faults_it_is_the_program() {
    let out =
        Command::new(env!("CARGO_BIN_EXE_faulty")).args(["verify", "--device", "cpu"]).output().unwrap();
    assert_eq!(out.status.code(), Some(0), "{}", String::from_utf8_lossy(&out.stderr));
    let wrong =
        Command::new(env!("CARGO_BIN_EXE_faulty")).args(["verify", "--devise", "cpu"]).output().unwrap();
    let stderr = String::from_utf8_lossy(&wrong.stderr);
    assert_eq!(wrong.status.code(), Some(2), "{stderr}");
    assert!(stderr.starts_with("error: ") && stderr.lines().count() == 1, "{stderr}");
}
