//! Each trick has its code and its sentence.

use std::io::Write as _;

use super::*;

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

#[test]
fn names_of_a_tar() {
    for (name, expected) in [
        (&b"../x"[..], "path_traversal"),
        (b"a/../../x", "path_traversal"),
        (b"/etc/passwd", "absolute_path"),
        (b"C:\\x", "windows_path"),
        (b"\\\\server\\x", "windows_path"),
        (b"a\\..\\..\\x", "path_traversal"),
    ] {
        assert_eq!(code(&tar(&[(b'0', name, b"", b"x")])), expected, "{}", path::shown(name));
        let text = String::from_utf8_lossy(name).into_owned();
        assert_eq!(code(&zip(&[line(&text, b"x")])), expected, "{}", path::shown(name));
    }
    assert_eq!(code(&zip(&[line("a\0b", b"x")])), "nul_in_name");
    assert_eq!(code(&tar(&[(b'x', b"p", b"", b"12 path=a\0b\n")])), "damaged_archive");
    let pax = tar(&[(b'x', b"p", b"", b"12 path=a\0b\n"), (b'0', b"a", b"", b"x")]);
    assert_eq!(code(&pax), "nul_in_name");
    let pax = tar(&[(b'x', b"p", b"", b"16 path=../../x\n"), (b'0', b"a", b"", b"x")]);
    assert_eq!(code(&pax), "path_traversal");
    let long = tar(&[(b'L', b"L", b"", b"../../x\0"), (b'0', b"a", b"", b"x")]);
    assert_eq!(code(&long), "path_traversal");
    assert_eq!(code(&tar(&[(b'0', b"", b"", b"x")])), "empty_name");
}

#[test]
fn odd_names_are_kept_and_told() {
    let odd = tar(&[
        (b'0', b"\xff\xfe", b"", b"1"),
        (b'0', b"CON", b"", b"2"),
        (b'0', b"A", b"", b"3"),
        (b'0', b"a", b"", b"4"),
        (b'0', b".GIT/config", b"", b"5"),
        (b'0', b"a\nb", b"", b"6"),
    ]);
    let (imported, files) = try_import(&odd, &Limits::default()).unwrap();
    assert_eq!(files.len(), 6);
    assert_eq!(
        notes(&imported),
        ["control_character_in_name", "git_lookalike", "non_utf8_name", "reserved_name"]
    );
    let (imported, files) =
        try_import(&zip(&[line("p\\a.txt", b"x"), line("p\\b.txt", b"y")]), &Limits::default())
            .unwrap();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["a.txt", "b.txt"]);
    assert_eq!(notes(&imported), ["backslash_separator"]);
}

#[test]
fn links() {
    let linked = tar(&[(b'2', b"l", b"/etc", b""), (b'0', b"l/passwd", b"", b"x")]);
    assert_eq!(code(&linked), "file_below_file");
    let below =
        tar(&[(b'0', b"a", b"", b"x"), (b'0', b"a-b", b"", b"x"), (b'0', b"a/b", b"", b"x")]);
    assert_eq!(code(&below), "file_below_file");
    assert_eq!(code(&tar(&[(b'1', b"h", b"/etc/passwd", b"")])), "absolute_path");
    assert_eq!(code(&tar(&[(b'1', b"h", b"later", b""), (b'0', b"later", b"", b"")])), "bad_link");
    assert_eq!(code(&tar(&[(b'2', b"l", b"", b"")])), "bad_link");
    let (imported, files) = try_import(
        &tar(&[(b'2', b"l", b"../../etc/passwd", b""), (b'2', b"loop", b"loop", b"")]),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!(files["l"], ("120000".into(), b"../../etc/passwd".to_vec()));
    assert_eq!(notes(&imported), ["link_leads_out"]);
}

#[test]
fn devices_are_left_out() {
    let (imported, files) = try_import(
        &tar(&[
            (b'3', b"p/null", b"", b""),
            (b'4', b"p/sda", b"", b""),
            (b'6', b"p/pipe", b"", b""),
            (b'0', b"p/a", b"", b"x"),
        ]),
        &Limits::default(),
    )
    .unwrap();
    assert_eq!((files.len(), notes(&imported)), (1, vec!["special_file"]));
    assert_eq!(imported.notes[0].count, 3);
    assert_eq!(code(&tar(&[(b'3', b"null", b"", b"")])), "empty_archive");
}

#[test]
fn duplicates() {
    let two = |a: &[u8], b: &[u8]| code(&tar(&[(b'0', b"a", b"", a), (b'0', b"./a", b"", b)]));
    assert_eq!(two(b"1", b"2"), "duplicate_entry");
    assert_eq!(two(b"1", b"1"), "ok");
    assert_eq!(code(&zip(&[line("a", b"1"), line("a", b"2")])), "duplicate_entry");
    assert_eq!(code(&tar(&[(b'0', b"a", b"", b"1"), (b'5', b"a", b"", b"")])), "duplicate_entry");
}

#[test]
fn what_is_no_archive() {
    assert_eq!(code(b""), "unsupported_archive");
    assert_eq!(code(b"hello"), "unsupported_archive");
    assert_eq!(code(&[7; 2000]), "unsupported_archive");
    let told = try_import(b"7z\xbc\xaf\x27\x1c....", &Limits::default()).unwrap_err().to_string();
    assert!(told.contains("7z"), "{told}");
    assert_eq!(code(&gz(b"just a text")), "not_an_archive");
    assert_eq!(code(&gz(&gz(&tar(&[(b'0', b"a", b"", b"x")])))), "nested_compression");
    assert_eq!(code(&gz(b"")), "empty_archive");
    assert_eq!(code(&tar(&[])), "empty_archive");
    assert_eq!(code(&tar(&[(b'5', b"a", b"", b"")])), "empty_archive");
    assert_eq!(code(&zip(&[])), "empty_archive");
    assert_eq!(code(b"PK\x07\x08PK\x03\x04"), "multi_part_archive");
}

#[test]
fn damage() {
    let whole = tar(&[(b'0', b"a", b"", &[b'x'; 5000])]);
    assert_eq!(code(&whole[..3000]), "damaged_archive");
    assert_eq!(code(&whole[..700]), "damaged_archive");
    let packed = gz(&whole);
    assert_eq!(code(&packed[..packed.len() - 4]), "damaged_archive");
    let mut wrong = packed.clone();
    let at = wrong.len() - 6;
    wrong[at] ^= 1;
    assert_eq!(code(&wrong), "damaged_archive", "the checksum of gzip is checked to the end");
    let mut wrong = tar(&[(b'0', b"a", b"", b"x"), (b'0', b"b", b"", b"x")]);
    wrong[1024 + 3] ^= 1;
    assert_eq!(code(&wrong), "damaged_archive");
    let archive = zip(&[line("a", b"hello")]);
    assert_eq!(code(&archive[..archive.len() - 1]), "damaged_archive");
    assert_eq!(code(&archive[..20]), "damaged_archive");
    let mut wrong = archive.clone();
    wrong[32] ^= 1;
    assert_eq!(code(&wrong), "damaged_archive", "the checksum of an entry is checked");
}

#[test]
fn zips_that_contradict_themselves() {
    let of = |change: &dyn Fn(&mut Line)| {
        let mut entry = line("a", b"hello");
        change(&mut entry);
        code(&zip(&[entry, line("b", b"x")]))
    };
    assert_eq!(of(&|_| ()), "ok");
    assert_eq!(of(&|l| l.size = Some(4)), "inconsistent_archive", "stored");
    let packed = |size| {
        of(&|l: &mut Line| {
            l.content = deflate(b"hello");
            l.method = 8;
            l.crc = Some(crc32fast::hash(b"hello"));
            l.size = Some(size);
        })
    };
    assert_eq!(packed(5), "ok");
    assert_eq!(packed(4), "inconsistent_archive");
    assert_eq!(packed(6), "inconsistent_archive");
    assert_eq!(of(&|l| l.local_size = Some(9)), "inconsistent_archive");
    assert_eq!(of(&|l| l.local_name = Some(b"z".to_vec())), "inconsistent_archive");
    assert_eq!(of(&|l| l.crc = Some(1)), "damaged_archive");
    assert_eq!(of(&|l| l.offset = Some(3)), "inconsistent_archive");
    assert_eq!(of(&|l| l.offset = Some(0xffff_fff0)), "inconsistent_archive");
    assert_eq!(of(&|l| l.flags = 1), "encrypted_archive");
    assert_eq!(of(&|l| l.method = 99), "encrypted_archive");
    assert_eq!(of(&|l| l.method = 14), "unsupported_method");
    assert_eq!(of(&|l| l.attributes = 0o020_666 << 16), "ok", "a device is left out");
    let mut first = line("a", b"hello");
    let mut second = line("a", b"hello");
    second.offset = Some(0);
    assert_eq!(code(&zip(&[first.clone(), second])), "overlapping_entries");
    first.content = [&b"12345"[..], &zip(&[line("c", b"quoted")])].concat();
    assert_eq!(code(&zip(&[first])), "ok", "an archive in an archive is a file");
    let mut folder = line("a/", b"hello");
    folder.attributes = 0;
    assert_eq!(code(&zip(&[folder])), "inconsistent_archive");
    let twice = [zip(&[line("a", b"x")]), zip(&[line("b", b"y")])].concat();
    assert_eq!(code(&twice), "inconsistent_archive");
    let mut parts = zip(&[line("a", b"x")]);
    let at = parts.len() - 18;
    parts[at] = 1;
    assert_eq!(code(&parts), "multi_part_archive");
    let mut fewer = zip(&[line("a", b"x"), line("b", b"y")]);
    let at = fewer.len() - 14;
    (fewer[at], fewer[at + 2]) = (1, 1);
    assert_eq!(code(&fewer), "inconsistent_archive");
}

#[test]
fn tars_that_contradict_themselves() {
    assert_eq!(code(&tar(&[(b'5', b"d", b"", b"content")])), "inconsistent_archive");
    assert_eq!(code(&tar(&[(b'2', b"l", b"t", b"content")])), "inconsistent_archive");
    let global = tar(&[(b'g', b"g", b"", b"10 path=x\n"), (b'0', b"a", b"", b"x")]);
    assert_eq!(code(&global), "inconsistent_archive");
    let sparse = tar(&[(b'x', b"x", b"", b"22 GNU.sparse.major=1\n"), (b'0', b"a", b"", b"x")]);
    assert_eq!(code(&sparse), "sparse_file");
    assert_eq!(code(&tar(&[(b'M', b"a", b"", b"x")])), "multi_part_archive");
    let large = vec![b'x'; 2 << 20];
    assert_eq!(code(&tar(&[(b'x', b"x", b"", &large)])), "header_too_large");
    assert_eq!(code(&tar(&[(b'L', b"x", b"", &large)])), "path_too_long");
    let many: Vec<(u8, &[u8], &[u8], &[u8])> = vec![(b'x', b"x", b"", b"8 a=bcd\n"); 20];
    assert_eq!(code(&tar(&many)), "damaged_archive");
}

#[test]
fn limits_hold() {
    let limits = Limits {
        entries: 3,
        file_bytes: 1000,
        total_bytes: 10_000,
        free_bytes: 10_000,
        ..Limits::default()
    };
    let refused = |bytes: &[u8]| try_import(bytes, &limits).unwrap_err().code();
    let four: Vec<Line> = (0..4).map(|n| line(&n.to_string(), b"x")).collect();
    assert_eq!(refused(&zip(&four)), "too_many_files");
    let four: Vec<(u8, &[u8], &[u8], &[u8])> =
        [b"1", b"2", b"3", b"4"].iter().map(|n| (b'0', &n[..], &b""[..], &b"x"[..])).collect();
    assert_eq!(refused(&tar(&four)), "too_many_files");
    assert_eq!(refused(&zip(&[line("a", &[0; 1001])])), "file_too_large");
    assert_eq!(refused(&tar(&[(b'0', b"a", b"", &[0; 1001])])), "file_too_large");
    let limits = Limits { total_bytes: 10_000, free_bytes: 10_000, ..Limits::default() };
    let refused = |bytes: &[u8]| try_import(bytes, &limits).unwrap_err().code();
    assert_eq!(refused(&zip(&[line("a", &[0; 6000]), line("b", &[0; 6000])])), "archive_too_large");
    assert_eq!(refused(&tar(&[(b'0', b"a", b"", &[0; 10_001])])), "archive_too_large");
    let cancel = Cancel::new();
    cancel.cancel();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("input");
    std::fs::write(&file, tar(&[(b'0', b"a", b"", b"x")])).unwrap();
    let stopped = import(&file, dir.path(), &Limits::default(), &cancel);
    assert!(matches!(stopped, Err(ArchiveError::Cancelled)));
}

/// CPU time of this process, in seconds.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

#[test]
fn bombs_of_4_gib_cost_less_than_2_seconds() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 128 << 20];
    let mut one = line("zeros", &deflate(&zeros));
    (one.method, one.size) = (8, Some(zeros.len() as u32));
    one.crc = Some(crc32fast::hash(&zeros));
    let entries: Vec<Line> =
        (0..32).map(|n| Line { name: format!("zeros-{n}").into_bytes(), ..one.clone() }).collect();
    std::fs::write(dir.path().join("a.zip"), zip(&entries)).unwrap();
    // Members and frames may follow each other: 32 times a file of 128 MiB.
    let zstd = |bytes: &[u8]| ::zstd::bulk::compress(bytes, 1).unwrap();
    let header = |size: u64| {
        let mut header = ::tar::Header::new_ustar();
        header.set_path("zeros").unwrap();
        header.set_size(size);
        header.set_cksum();
        header.as_bytes().to_vec()
    };
    let both = |pack: &dyn Fn(&[u8]) -> Vec<u8>| {
        [pack(&header(zeros.len() as u64)), pack(&zeros)].concat().repeat(32)
    };
    std::fs::write(dir.path().join("a.gz"), both(&gz)).unwrap();
    std::fs::write(dir.path().join("a.zst"), both(&zstd)).unwrap();
    let huge = [zstd(&header(4 << 30)), zstd(&zeros).repeat(32)].concat();
    std::fs::write(dir.path().join("b.zst"), huge).unwrap();
    for (name, expected) in [
        ("a.zip", "archive_bomb"),
        ("a.gz", "archive_bomb"),
        ("a.zst", "archive_bomb"),
        ("b.zst", "file_too_large"),
    ] {
        let before = cpu();
        let error = import_file(&dir.path().join(name), &Limits::default()).unwrap_err();
        let spent = cpu() - before;
        assert_eq!(error.code(), expected, "{name}: {error}");
        assert!(spent < 2.0, "{name} took {spent} s of CPU");
    }
    // What a window of xz may take is bounded before it is allocated.
    let mut xz = Vec::new();
    let mut options = liblzma::stream::LzmaOptions::new_preset(0).unwrap();
    options.dict_size(1 << 30);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream =
        liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32)
            .unwrap();
    let mut out = liblzma::write::XzEncoder::new_stream(&mut xz, stream);
    out.write_all(&tar(&[(b'0', b"a", b"", b"x")])).unwrap();
    out.finish().unwrap();
    assert_eq!(code(&xz), "damaged_archive");
}
