//! Files that are broken.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use iotdm::host::journal::Options;

use crate::journal::{BOOT, Record, write};
use crate::{numbered, options, read_to, read_until, start};

fn errors(file: &Path, from: u64, count: u64) {
    let records: Vec<_> = (from..from + count)
        .map(|nth| Record::new(nth, 3, format!("e{nth}")))
        .collect();
    write(file, &records);
}

#[tokio::test]
async fn damage_in_the_middle_of_a_file_is_told_and_what_comes_after_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a.journal");
    errors(&file, 0, 2000);
    // In the middle of its entries.
    let content = std::fs::read(&file).unwrap();
    let middle = content.windows(13).position(|text| text == b"MESSAGE=e1000").unwrap();
    let mut open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.seek(SeekFrom::Start(middle as u64)).unwrap();
    open.write_all(&vec![0; 16 * 1024]).unwrap();
    drop(open);
    let mut journal = start(options(folder.path()), None);
    let read = read_until(&mut journal, "a gap", |read| !read.gaps.is_empty()).await;
    assert!(
        !read.entries.is_empty() && read.entries.len() < 2000,
        "{}",
        read.entries.len()
    );
    assert_eq!(
        read.messages(),
        numbered("e", read.entries.len() as u64),
        "each once, up to the damage"
    );
    let after = read.cursor;
    drop(journal);
    // journald puts such a file aside and begins a new one.
    errors(&folder.path().join("b.journal"), 5000, 3);
    let mut journal = start(options(folder.path()), after);
    let read = read_to(&mut journal, "e5002").await;
    let mut messages = read.messages();
    messages.dedup();
    assert_eq!(messages.len(), read.entries.len());
    assert!(messages.ends_with(&["e5000", "e5001", "e5002"]));
}

#[tokio::test]
async fn a_file_that_cannot_be_read_at_all_is_told_and_the_others_are_read() {
    for fault in ["truncated", "junk", "empty"] {
        let folder = tempfile::tempdir().unwrap();
        let (bad, good) = (folder.path().join("system.journal"), folder.path().join("good.journal"));
        errors(&bad, 0, 10);
        errors(&good, 20, 3);
        match fault {
            "truncated" => std::fs::OpenOptions::new()
                .write(true)
                .open(&bad)
                .unwrap()
                .set_len(5000)
                .unwrap(),
            "junk" => std::fs::write(&bad, vec![7; 100_000]).unwrap(),
            _ => std::fs::write(&bad, []).unwrap(),
        }
        let mut journal = start(options(folder.path()), None);
        let read = read_to(&mut journal, "e22").await;
        assert_eq!(read.messages(), ["e20", "e21", "e22"], "{fault}");
        if fault != "empty" {
            let told = match read.gaps.is_empty() {
                true => {
                    read_until(&mut journal, "a gap", |read| !read.gaps.is_empty())
                        .await
                        .gaps
                }
                false => read.gaps,
            };
            assert!(told[0].reason.contains("system.journal"), "{told:?}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_truncated_while_it_is_read_does_not_end_the_reader() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("system.journal");
    errors(&file, 0, 3000);
    let small = Options {
        most_entries: 10,
        ..options(folder.path())
    };
    let mut journal = start(small, None);
    let read = read_until(&mut journal, "the first", |read| read.entries.len() >= 10).await;
    assert_eq!(read.entries[0].boot_id, BOOT);
    // journalctl has the file mapped: reading on raises SIGBUS in it.
    let open = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    open.set_len(64 * 1024).unwrap();
    errors(&folder.path().join("new.journal"), 5000, 3);
    let read = read_to(&mut journal, "e5002").await;
    assert!(read.messages().ends_with(&["e5000", "e5001", "e5002"]));
}
