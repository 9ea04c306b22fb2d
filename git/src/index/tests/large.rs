//! Objects that are too large for memory, and forests that branch.

use super::*;

const MIB: usize = 1 << 20;

#[test]
fn objects_too_large_for_memory() {
    let mut noise = Noise(3);
    let base = noise.bytes(9 * MIB);
    let mut pack = Pack::new();
    let first = pack.blob(&base);
    // Large on large, small on large, large on small again by a large delta.
    let second = [&base[..8 * MIB], b"end"].concat();
    let place = pack.ofs_delta(first, &delta(base.len(), 8 * MIB, b"end"));
    pack.ofs_delta(place, &delta(second.len(), 6 * MIB, b"leaf"));
    let small = [&second[..100], b"small"].concat();
    let third = pack.ofs_delta(place, &delta(second.len(), 100, b"small"));
    for number in 0..10_u8 {
        pack.ofs_delta(third, &delta(small.len(), 50, &[number]));
    }
    let added = noise.bytes(7 * MIB);
    pack.ofs_delta(third, &delta(small.len(), 100, &added));
    let fourth = [&small[..100], &added[..]].concat();
    pack.ref_delta(&blob_id(&fourth), &delta(fourth.len(), 100, b"by id"));
    pack.ref_delta(&blob_id(&second), &delta(second.len(), 5 * MIB, b"by id"));
    pack.blob(b"unrelated");
    same(&pack.finish());
}

#[test]
fn branches_that_would_fill_the_memory() {
    // Each object has a leaf, a branch that ends soon, and one that goes on; 1 MiB each.
    let mut noise = Noise(5);
    let base = noise.bytes(2 * MIB);
    let mut pack = Pack::new();
    let mut chain = pack.blob(&base);
    let mut size = base.len();
    for number in 0..40_u32 {
        let (next, kept) = (number.to_be_bytes(), size - 8);
        let branch = |pack: &mut Pack, name: &[u8]| {
            pack.ofs_delta(chain, &delta(size, kept, &[name, &next].concat()))
        };
        branch(&mut pack, b"leaf");
        let side = branch(&mut pack, b"side");
        pack.ofs_delta(side, &delta(kept + 8, kept, b"side end"));
        chain = branch(&mut pack, b"main");
        size = kept + 8;
    }
    same(&pack.finish());
    // The same by id: nobody knows beforehand which branch is the longest.
    let mut pack = Pack::new();
    pack.blob(&base);
    let mut content = base;
    for number in 0..40_u32 {
        let (id, kept) = (blob_id(&content), content.len() - 8);
        let made = |name: &[u8]| [&content[..kept], name, &number.to_be_bytes()].concat();
        for name in [b"side", b"main"] {
            let added = [name, &number.to_be_bytes()[..]].concat();
            pack.ref_delta(&id, &delta(content.len(), kept, &added));
        }
        let side = made(b"side");
        pack.ref_delta(&blob_id(&side), &delta(side.len(), 20, b"side end"));
        content = made(b"main");
    }
    same(&pack.finish());
}

#[test]
fn a_large_tree_is_shown_whole_and_a_huge_one_refused() {
    let tree = |entries: usize| -> Vec<u8> {
        (0..entries)
            .flat_map(|number| [format!("100644 {number:08}\0").as_bytes(), &[7; 20]].concat())
            .collect()
    };
    let add = |pack: &mut Pack, content: &[u8]| {
        pack.entry(crate::firewall::TREE, content.len(), b"", &deflate(content))
    };
    let large = tree(200_000);
    let mut pack = Pack::new();
    let place = add(&mut pack, &large);
    pack.ofs_delta(place, &delta(large.len(), 36 * 150_000, b""));
    let done = same(&pack.finish());
    assert_eq!(done.seen.len(), 2);

    let mut pack = Pack::new();
    add(&mut pack, &tree(500_000));
    let refused = ours(&pack.finish()).err().unwrap().to_string();
    assert!(refused.contains("a directory, commit or tag of"), "{refused}");
    // The same by two deltas.
    let half = tree(300_000);
    let mut pack = Pack::new();
    let place = add(&mut pack, &half);
    let mut twice = [varint(half.len()), varint(2 * half.len())].concat();
    for _ in 0..2 {
        twice.push(0xf0);
        twice.extend_from_slice(&(half.len() as u32).to_le_bytes()[..3]);
    }
    pack.ofs_delta(place, &twice);
    let refused = ours(&pack.finish()).err().unwrap().to_string();
    assert!(refused.contains("a directory, commit or tag of"), "{refused}");
}
