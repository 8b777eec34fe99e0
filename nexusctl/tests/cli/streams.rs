//! What goes into pipes.

use std::{io, process::Stdio};

use crate::{nexusctl, text};

#[test]
fn a_reader_that_is_gone_is_nothing_to_talk_about() {
    for arguments in [&["completions", "bash"][..], &["version"]] {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = nexusctl(arguments).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(141), ""), "{arguments:?}");
    }
}

#[test]
fn completions_are_there_for_three_shells() {
    for (shell, sign) in
        [("bash", "complete -F _nexusctl"), ("zsh", "#compdef nexusctl"), ("fish", "complete -c nexusctl")]
    {
        let output = nexusctl(&["completions", shell]).output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains(sign), "{shell}");
    }
}
