//! Logs written, rotated, torn and read back.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::time::{Duration, Instant};

use super::*;

const MAX_BYTES: u64 = 10 << 20;

fn read_all(dir: &Path, filter: LogFilter) -> Vec<LogRecord> {
    let mut reader = LogReader::open(dir, filter);
    let mut records = Vec::new();
    while let Some(record) = reader.next_record().expect("read") {
        records.push(record);
    }
    records
}

fn bytes_of(records: &[LogRecord]) -> Vec<u8> {
    records.iter().flat_map(|record| record.data.clone()).collect()
}

#[test]
fn every_byte_comes_back_however_it_is_cut() {
    let mut text = "größe 漢字 😀 \x1b[1m\"quoted\"\\\r\n".as_bytes().to_vec();
    text.extend_from_slice(b"\xff\xfe\xe6\xbc\xf0\x9f\x98 tail \xc3\xa9\xe6\xbc");
    for size in 1..=text.len() {
        let dir = tempfile::tempdir().expect("tempdir");
        let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
        for chunk in text.chunks(size) {
            log.append(5, Stream::Tty, chunk);
        }
        log.finish();
        assert_eq!(bytes_of(&read_all(dir.path(), LogFilter::default())), text, "chunks of {size}");
    }
    // A character split in two does not make its chunk unreadable.
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
    log.append(5, Stream::Tty, b"a\xe6\xbc");
    log.append(5, Stream::Out, b"other");
    log.append(5, Stream::Tty, b"\xa2b");
    log.finish();
    let raw = fs::read_to_string(dir.path().join("log.jsonl")).expect("read");
    assert!(!raw.contains("\"b\":") && raw.contains('漢'), "{raw}");
}

#[test]
fn rotation_keeps_the_newest_files_in_order() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = LogWriter::new(dir.path(), 200, 3);
    for number in 0..100_u64 {
        log.append(number, Stream::Out, format!("line {number}\n").as_bytes());
        log.flush();
    }
    let records = read_all(dir.path(), LogFilter::default());
    let times: Vec<u64> = records.iter().map(|record| record.unix_ms).collect();
    assert!(times.windows(2).all(|pair| pair[1] == pair[0] + 1) && times.last() == Some(&99), "{times:?}");
    assert!(times.len() > 8 && times.len() < 40, "{times:?}");
    assert_eq!(fs::read_dir(dir.path()).expect("dir").count(), 3);
    for file in fs::read_dir(dir.path()).expect("dir") {
        assert!(file.expect("entry").metadata().expect("meta").len() <= 200);
    }
}

#[test]
fn a_follower_misses_nothing_over_rotations() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = LogWriter::new(dir.path(), 300, 3);
    let mut reader = LogReader::open(dir.path(), LogFilter::default());
    let mut seen = Vec::new();
    for number in 0..200_u64 {
        log.append(number, Stream::Out, b"some words of output\n");
        log.flush();
        // Behind by up to a file, as a slow reader is.
        if number % 4 == 3 {
            while let Some(record) = reader.next_record().expect("read") {
                seen.push(record.unix_ms);
            }
        }
    }
    assert_eq!(seen, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_wait_ends_when_something_is_written() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut reader = LogReader::open(dir.path(), LogFilter::default());
    assert!(reader.watch().is_some());
    assert_eq!(reader.next_record().expect("read"), None);
    let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
    log.append(1, Stream::Tty, b"x");
    log.flush();
    let start = Instant::now();
    reader.wait(Duration::from_secs(30));
    assert!(start.elapsed() < Duration::from_secs(10));
    assert!(reader.next_record().expect("read").is_some());
}

#[test]
fn torn_lines_cost_only_themselves() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log.jsonl");
    fs::write(&path, "{\"t\":1,\"s\":\"tty\",\"d\":\"a\"}\n{\"t\":2,\"s\":\"t").expect("write");
    assert_eq!(read_all(dir.path(), LogFilter::default()).len(), 1);
    let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
    log.append(3, Stream::Tty, b"c");
    log.finish();
    assert_eq!(bytes_of(&read_all(dir.path(), LogFilter::default())), b"ac");
    // A line that is completed later is read then.
    let mut reader = LogReader::open(dir.path(), LogFilter::default());
    let mut file = OpenOptions::new().append(true).open(&path).expect("open");
    file.write_all(b"{\"t\":4,\"s\":\"err\",").expect("write");
    while reader.next_record().expect("read").is_some() {}
    file.write_all(b"\"b\":\"/w==\"}\n").expect("write");
    assert_eq!(reader.next_record().expect("read").map(|record| record.data), Some(vec![0xff]));
}

#[test]
fn filters_and_tails() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
    for (time, stream, text) in [
        (1, Stream::Out, "a\nb\n"),
        (2, Stream::Err, "oops\n"),
        (3, Stream::Out, "c\nd"),
        (4, Stream::Out, "e\n"),
    ] {
        log.append(time, stream, text.as_bytes());
    }
    log.finish();
    let text = |filter| String::from_utf8(bytes_of(&read_all(dir.path(), filter))).expect("utf-8");
    assert_eq!(text(LogFilter { stream: Some(Stream::Err), since_unix_ms: None }), "oops\n");
    assert_eq!(text(LogFilter { stream: None, since_unix_ms: Some(3) }), "c\nde\n");
    let out = LogFilter { stream: Some(Stream::Out), since_unix_ms: None };
    for (lines, expected) in [(0, ""), (1, "de\n"), (2, "c\nde\n"), (3, "b\nc\nde\n"), (99, "a\nb\nc\nde\n")]
    {
        let records = LogReader::open(dir.path(), out).tail(lines).expect("tail");
        assert_eq!(String::from_utf8(bytes_of(&records)).expect("utf-8"), expected, "{lines}");
    }
    // A last line without its end counts as a line.
    log.append(5, Stream::Out, b"open");
    log.finish();
    let records = LogReader::open(dir.path(), out).tail(2).expect("tail");
    assert_eq!(bytes_of(&records), b"de\nopen");
}

#[test]
fn a_full_disk_stops_the_log_and_is_noted() {
    let dir = tempfile::tempdir().expect("tempdir");
    let path = dir.path().join("log.jsonl");
    // A device that is always full stands in for a full disk.
    std::os::unix::fs::symlink("/dev/full", &path).expect("link");
    let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
    log.append(1, Stream::Tty, b"lost");
    log.flush();
    log.append(2, Stream::Tty, b"lost too");
    log.flush();
    assert_eq!(log.dropped_bytes(), 12);
    fs::remove_file(&path).expect("unlink");
    log.append(3, Stream::Tty, b"found");
    log.finish();
    let records = read_all(dir.path(), LogFilter::default());
    assert_eq!(bytes_of(&records), b"found");
    assert_eq!(records[0].dropped, 12);
    log.append(4, Stream::Tty, b"!");
    log.finish();
    assert_eq!(read_all(dir.path(), LogFilter::default()).iter().map(|r| r.dropped).sum::<u64>(), 12);
}

#[test]
fn a_flood_is_written_fast() {
    let dir = tempfile::tempdir().expect("tempdir");
    let mut log = LogWriter::new(dir.path(), MAX_BYTES, 3);
    let line =
        b"The quick brown fox jumps over the lazy dog, seventy-eight columns wide.....\r\n".repeat(100);
    let start = Instant::now();
    let mut total = 0;
    while total < 8 << 20 {
        log.append(1, Stream::Tty, &line);
        total += line.len();
    }
    log.finish();
    let rate = total as f64 / start.elapsed().as_secs_f64() / 1e6;
    println!("{rate:.0} MB/s");
    assert_eq!(log.dropped_bytes(), 0);
    // Unoptimised and on a busy machine; an optimised build encodes some 700 MB/s.
    assert!(rate > 0.5, "{rate:.0} MB/s");
}
