//! The durable state: two copies, the newest whole one wins.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::{damaged, files, scratch};
use crate::store::{Loaded, MAX_DOCUMENT, StateFile, StoreError, StoreErrorKind, copy, unused};

fn load(dir: &Path) -> Loaded {
    StateFile::open(dir).unwrap().1
}

/// A folder with these documents committed one after the other.
fn committed(documents: &[&str]) -> tempfile::TempDir {
    let dir = scratch();
    let (mut state, _) = StateFile::open(dir.path()).unwrap();
    for document in documents {
        state.commit(document.as_bytes()).unwrap();
    }
    dir
}

#[test]
fn the_first_start_finds_nothing_and_says_nothing() {
    let dir = scratch();
    let loaded = load(&dir.path().join("made/when/missing"));
    assert_eq!((loaded.json, loaded.generation, loaded.notices), (None, 0, Vec::new()));
    let mode = fs::metadata(dir.path().join("made/when/missing"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn the_last_document_committed_is_what_the_next_start_finds() {
    let dir = scratch();
    for generation in 1..=5 {
        let (mut state, loaded) = StateFile::open(dir.path()).unwrap();
        assert_eq!(loaded.generation, generation - 1);
        let document = format!("{{\"n\":{generation}}}");
        assert_eq!(state.commit(document.as_bytes()).unwrap(), generation);
        drop(state);
        let loaded = load(dir.path());
        assert_eq!(loaded.json.as_deref(), Some(document.as_bytes()));
        assert_eq!(loaded.notices, []);
    }
}

#[test]
fn a_commit_leaves_the_copy_before_it_untouched() {
    let dir = committed(&["{\"n\":1}"]);
    let before = fs::read(dir.path().join("state.b")).unwrap();
    let (mut state, _) = StateFile::open(dir.path()).unwrap();
    state.commit(b"{\"n\":2}").unwrap();
    assert_eq!(fs::read(dir.path().join("state.b")).unwrap(), before);
    state.commit(b"{\"n\":3}").unwrap();
    assert_ne!(fs::read(dir.path().join("state.b")).unwrap(), before);
}

#[test]
fn nobody_but_the_owner_reads_the_state() {
    let dir = committed(&["{}", "{}"]);
    for (path, _) in files(dir.path()) {
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600,
            "{}",
            path.display()
        );
    }
}

#[test]
fn damage_at_any_byte_of_the_newest_copy_brings_back_the_one_before() {
    let dir = committed(&["{\"first\":1}", "{\"second\":2}"]);
    let newest = dir.path().join("state.a");
    let whole = fs::read(&newest).unwrap();
    for (at, bytes) in damaged(&whole) {
        fs::write(&newest, &bytes).unwrap();
        let (mut state, loaded) = StateFile::open(dir.path()).unwrap();
        assert_eq!(
            loaded.json.as_deref(),
            Some(b"{\"first\":1}".as_slice()),
            "damage at {at}"
        );
        assert_eq!(loaded.generation, 1);
        let told: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
        assert!(
            told[0].contains("state.a: damaged: ") && told[0].contains("state.a.damaged"),
            "{told:?}"
        );
        assert!(told[1].contains("used instead"), "{told:?}");
        assert_eq!(fs::read(dir.path().join("state.a.damaged")).unwrap(), bytes);
        // And it goes on from there, without touching the copy that is left.
        let before = fs::read(dir.path().join("state.b")).unwrap();
        assert_eq!(state.commit(b"{\"third\":3}").unwrap(), 2);
        assert_eq!(fs::read(dir.path().join("state.b")).unwrap(), before);
        drop(state);
        assert_eq!(load(dir.path()).json.as_deref(), Some(b"{\"third\":3}".as_slice()));
    }
}

#[test]
fn damage_of_the_older_copy_loses_nothing() {
    let dir = committed(&["{\"first\":1}", "{\"second\":2}"]);
    fs::write(dir.path().join("state.b"), b"iotdm-state version=1 gener").unwrap();
    let loaded = load(dir.path());
    assert_eq!(loaded.json.as_deref(), Some(b"{\"second\":2}".as_slice()));
    assert!(loaded.notices[0].reason.contains("the header line has no end"));
}

#[test]
fn two_damaged_copies_are_an_empty_state_told_loudly_at_every_start_until_the_next_commit() {
    let dir = committed(&["{}", "{}"]);
    fs::write(dir.path().join("state.a"), b"").unwrap();
    fs::write(dir.path().join("state.b"), b"\0\0\0").unwrap();
    let loaded = load(dir.path());
    assert_eq!((loaded.json, loaded.generation), (None, 0));
    assert!(
        loaded.notices[2]
            .reason
            .starts_with("both copies of the state are damaged: starting without any")
    );

    let again = load(dir.path()).notices;
    assert!(
        again[0].reason.contains("only a damaged copy from an earlier start"),
        "{again:?}"
    );
    StateFile::open(dir.path()).unwrap().0.commit(b"{}").unwrap();
    assert_eq!(load(dir.path()).notices, []);
}

#[test]
fn a_copy_that_the_medium_does_not_give_back_counts_as_damaged() {
    let dir = committed(&["{\"first\":1}", "{\"second\":2}"]);
    fs::remove_file(dir.path().join("state.a")).unwrap();
    fs::create_dir(dir.path().join("state.a")).unwrap();
    let loaded = load(dir.path());
    assert_eq!(loaded.json.as_deref(), Some(b"{\"first\":1}".as_slice()));
    assert!(loaded.notices[0].reason.contains("it cannot be read"));
}

#[test]
fn a_copy_larger_than_any_document_is_not_read() {
    let dir = committed(&["{\"first\":1}", "{\"second\":2}"]);
    fs::File::create(dir.path().join("state.a"))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    let loaded = load(dir.path());
    assert_eq!(loaded.generation, 1);
    assert!(loaded.notices[0].reason.contains("too large"));
}

/// What a later version may write: a higher number, more words before the digest.
fn of_a_later_version(generation: u64, json: &str) -> String {
    let head = format!(
        "iotdm-state version=7 generation={generation} written-by=agent/9.1 length={} crc=abc sha256=",
        json.len()
    );
    let sum = Sha256::digest(format!("{head}\n{json}"));
    let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{head}{sum}\n{json}")
}

#[test]
fn what_a_newer_agent_wrote_is_read_and_never_put_aside() {
    let dir = committed(&["{\"old\":1}", "{\"old\":2}"]);
    let newer = of_a_later_version(3, "{\"new\":3}");
    fs::write(dir.path().join("state.b"), &newer).unwrap();
    let (mut state, loaded) = StateFile::open(dir.path()).unwrap();
    assert_eq!(loaded.json.as_deref(), Some(b"{\"new\":3}".as_slice()));
    assert!(
        loaded.notices[0].reason.contains("newer agent (format 7)"),
        "{:?}",
        loaded.notices
    );
    assert!(!dir.path().join("state.b.damaged").exists());
    // The first commit of the old agent leaves it where it is.
    assert_eq!(state.commit(b"{\"old\":4}").unwrap(), 4);
    assert_eq!(fs::read_to_string(dir.path().join("state.b")).unwrap(), newer);
}

#[test]
fn a_commit_cut_off_at_any_byte_changes_nothing() {
    let dir = committed(&["{\"first\":1}", "{\"second\":2}"]);
    let unfinished = copy::encode(3, b"{\"third\":3}");
    let temporary = dir.path().join("state.b.tmp");
    for length in 0..=unfinished.len() {
        fs::write(&temporary, &unfinished[..length]).unwrap();
        let loaded = load(dir.path());
        assert_eq!((loaded.generation, loaded.notices), (2, Vec::new()));
        assert!(!temporary.exists());
    }
}

#[test]
fn damaged_copies_do_not_pile_up() {
    let dir = committed(&["{}", "{}"]);
    for round in 0..20 {
        fs::write(dir.path().join("state.a"), format!("rubbish {round}")).unwrap();
        StateFile::open(dir.path()).unwrap().0.commit(b"{}").unwrap();
    }
    assert_eq!(
        files(dir.path()).len(),
        4,
        "two copies, the lock and the last damaged one"
    );
    assert_eq!(fs::read(dir.path().join("state.a.damaged")).unwrap(), b"rubbish 19");
}

#[test]
fn a_second_agent_is_told_who_has_the_folder_and_what_to_do() {
    let dir = committed(&["{}"]);
    let (held, _) = StateFile::open(dir.path()).unwrap();
    let error = StateFile::open(dir.path()).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::InUse);
    let reason = error.reason();
    assert!(
        reason.contains(&format!("in use by process {}", std::process::id())),
        "{reason}"
    );
    assert!(reason.contains("systemctl stop iotdm-agent"), "{reason}");
    drop(held);
    assert_eq!(load(dir.path()).generation, 1);
}

#[test]
fn whether_somebody_uses_a_folder_is_seen_without_a_change_to_it() {
    let dir = scratch();
    unused(dir.path()).unwrap();
    assert!(files(dir.path()).is_empty(), "nothing is made");
    let (held, _) = StateFile::open(dir.path()).unwrap();
    for _ in 0..2 {
        let error = unused(dir.path()).unwrap_err();
        let mine = std::process::id();
        assert!(
            matches!(error, StoreError::InUse { holder: Some(pid), .. } if pid == mine),
            "{error}"
        );
    }
    drop(held);
    unused(dir.path()).unwrap();
    StateFile::open(dir.path()).unwrap();
}

#[test]
fn a_document_beyond_the_bound_is_refused_and_the_one_before_kept() {
    let dir = committed(&["{}"]);
    let (mut state, _) = StateFile::open(dir.path()).unwrap();
    let largest = usize::try_from(MAX_DOCUMENT).unwrap();
    assert!(matches!(
        state.commit(&vec![b' '; largest + 1]),
        Err(StoreError::TooLarge { .. })
    ));
    assert_eq!(state.commit(&vec![b' '; largest]).unwrap(), 2);
    drop(state);
    assert_eq!(load(dir.path()).json.unwrap().len(), largest);
}

#[test]
fn a_folder_that_cannot_be_made_is_an_error_with_its_path() {
    let dir = committed(&["{}"]);
    let error = StateFile::open(&dir.path().join("state.b/below")).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
    assert!(error.reason().contains("state.b/below"), "{}", error.reason());
}

proptest! {
    #[test]
    fn no_bytes_make_a_header_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(copy::decode(&bytes).is_err());
    }

    #[test]
    fn no_header_of_known_words_makes_it_panic(
        words in "iotdm-state( (version|generation|length|sha256|x)=?[0-9a-f]{0,30}){0,6}\n.{0,9}"
    ) {
        prop_assert!(copy::decode(words.as_bytes()).is_err());
    }

    #[test]
    fn what_was_encoded_is_what_is_decoded(
        generation: u64,
        json in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let whole = copy::decode(&copy::encode(generation, &json)).unwrap();
        prop_assert_eq!(whole, copy::Copy { version: copy::VERSION, generation, json });
    }
}
