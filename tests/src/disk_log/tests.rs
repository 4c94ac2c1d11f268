//! The reader of a log, and what it makes of one.

use super::*;

/// A log of these entries, each with the sector it is for, its sectors, its flags, and what its data is full of.
fn log(entries: &[(u64, u64, u64, u8)]) -> File {
    let file = tempfile::tempfile().unwrap();
    let mut bytes = Vec::new();
    let mut head = |numbers: [u64; 4], data: &[u8]| {
        let start = bytes.len();
        bytes.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        bytes.resize(start + 512, 0);
        bytes.extend(data);
    };
    head([MAGIC, VERSION, entries.len() as u64, SECTOR], &[]);
    for (sector, sectors, flags, fill) in entries {
        let count = if *flags == 0 { *sectors as usize } else { 0 };
        head([*sector, *sectors, *flags, 0], &vec![*fill; count * 512]);
    }
    file.write_all_at(&bytes, 0).unwrap();
    file
}

#[test]
fn what_was_flushed_stays_and_what_was_not_may_go_or_break() {
    let entries = [
        (0, 2, 0, 1),
        (0, 0, FLUSH, 0),
        (1, 1, 0, 2),
        (2, 3, 0, 3),
        (0, 0, FLUSH, 0),
        (0, 1, DISCARD, 0),
        (0, 0, FLUSH, 0),
    ];
    let log = DiskLog::of(log(&entries));
    assert_eq!((log.entries.len(), log.counted), (7, 7));
    let dir = tempfile::tempdir().unwrap();
    let (base, disk) = (dir.path().join("base"), dir.path().join("disk"));
    File::create_new(&base).unwrap().set_len(8 * 512).unwrap();
    let how = Losses {
        base: &base,
        disk: &disk,
        flushes: 10,
        torn: 100,
    };
    // The first byte of each sector.
    let mut seen = std::collections::BTreeSet::new();
    log.losses(&how, &mut Random::from(7), |loss| {
        let bytes = std::fs::read(&disk).unwrap();
        let firsts: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(firsts[5..] == [0; 3], "{loss:?}");
        seen.insert((loss.place, firsts[..5].to_vec()));
    });
    let states_at = |place| -> Vec<&[u8]> {
        let there = seen.iter().filter(|(at, _)| *at == place);
        there.map(|(_, state)| &state[..]).collect()
    };
    let first = log.entries[3].end();
    let states = states_at(first);
    // Each of the two writes is there or not, and the longer one in parts, too.
    for state in [
        [1, 1, 0, 0, 0],
        [1, 2, 0, 0, 0],
        [1, 1, 3, 3, 3],
        [1, 2, 3, 3, 3],
        [1, 1, 3, 0, 0],
    ] {
        assert!(
            states.contains(&&state[..]),
            "{state:?} is not in {states:?}"
        );
    }
    assert!(states.iter().all(|state| state[0] == 1), "{states:?}");
    let last = log.entries[6].end();
    let states = states_at(last);
    assert_eq!(states, [&[0, 2, 3, 3, 3][..]]);
}

#[test]
fn an_entry_whose_data_is_cut_off_is_none() {
    let file = log(&[(0, 1, 0, 1), (1, 2, 0, 2)]);
    assert_eq!(DiskLog::of(file.try_clone().unwrap()).entries.len(), 2);
    file.set_len(file.metadata().unwrap().len() - 1).unwrap();
    assert_eq!(DiskLog::of(file).entries.len(), 1);
}

#[test]
fn a_copy_has_the_holes_and_the_data() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let file = File::create_new(&from).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(&[7; 5000], 3 << 20).unwrap();
    file.write_all_at(&[8; 2 << 20], 32 << 20).unwrap();
    std::fs::write(&to, [9; 100]).unwrap();
    copy(&from, &to).unwrap();
    assert!(std::fs::read(&from).unwrap() == std::fs::read(&to).unwrap());
    let blocks = std::os::unix::fs::MetadataExt::blocks(&to.metadata().unwrap());
    assert!(blocks * 512 < 8 << 20, "{blocks} blocks");
}
