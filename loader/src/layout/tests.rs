//! Layouts of made-up tensors.

use super::*;

fn tensor(rows: usize, cols: usize, encoding: Encoding, from: u64) -> Tensor {
    Tensor {
        rows,
        cols,
        encoding,
        bytes: encoding.bytes(rows, cols).unwrap(),
        from: Some(from),
    }
}

/// Queries and keys in one encoding and values in another, as quantised files mix them; a small
/// norm.
fn weights() -> Vec<(Role, Vec<Tensor>)> {
    let norm = vec![tensor(256, 1, Encoding::F32, 40)];
    let qkv = vec![
        tensor(512, 256, Encoding::Q8_0, 1064),
        tensor(128, 256, Encoding::Q8_0, 200_040),
        tensor(128, 256, Encoding::Bf16, 400_008),
    ];
    vec![(Role::InputNorm, norm), (Role::Qkv, qkv)]
}

#[test]
fn packed_tensors_of_one_encoding_are_one_part() {
    let layout = BlockLayout::of(&weights(), Arrangement::Packed);
    let qkv = layout.get(Role::Qkv).unwrap();
    let parts: Vec<_> = qkv.parts.iter().map(|it| (it.rows, it.encoding)).collect();
    assert_eq!(parts, [(640, Encoding::Q8_0), (128, Encoding::Bf16)]);
    assert_eq!((qkv.rows(), qkv.cols()), (768, 256));
    let row_bytes = 256 / 32 * 34;
    assert_eq!(qkv.bytes(), 640 * row_bytes + 128 * 512);
    let (offset, _) = qkv.find(512).unwrap();
    assert_eq!(offset, qkv.parts[0].offset + 512 * row_bytes);
    assert_eq!(qkv.find(640).unwrap().0, qkv.parts[1].offset);
    assert!(qkv.find(768).is_none());
    assert!(
        layout
            .parts()
            .all(|(_, part)| part.offset % SLAB_ALIGN_BYTES == 0)
    );
}

#[test]
fn a_large_tensor_has_pages_of_its_own_at_the_place_that_it_has_in_the_file() {
    let layout = BlockLayout::of(&weights(), Arrangement::Paged);
    let [q, k, v] = &layout.get(Role::Qkv).unwrap().parts[..] else {
        panic!("{layout:?}");
    };
    let page = DIRECT_ALIGN_BYTES;
    assert!(q.is_paged && q.offset % page == 1064);
    // 34 KB: it shares its read.
    assert!(!k.is_paged && k.offset >= (q.offset + q.bytes).next_multiple_of(page));
    assert!(v.is_paged && v.offset % page == 400_008 % page);
    assert!(layout.slab_bytes() >= (v.offset + v.bytes).next_multiple_of(page));
    // Numbers of two bytes at an odd place cannot be read there.
    let odd = [(Role::Out, vec![tensor(256, 256, Encoding::Bf16, 4097)])];
    let odd = BlockLayout::of(&odd, Arrangement::Paged);
    assert!(!odd.get(Role::Out).unwrap().parts[0].is_paged);
}

#[test]
fn a_vector_is_one_part_however_long() {
    let bias = || tensor(40_000, 1, Encoding::F32, 4096);
    for arrangement in [Arrangement::Packed, Arrangement::Paged] {
        let layout = BlockLayout::of(&[(Role::QkvBias, vec![bias(), bias()])], arrangement);
        let [part] = &layout.get(Role::QkvBias).unwrap().parts[..] else {
            panic!("{layout:?}");
        };
        assert!(part.rows == 80_000 && !part.is_paged);
    }
}

#[test]
fn moves_bring_every_weight_from_one_layout_to_the_other() {
    let paged = BlockLayout::of(&weights(), Arrangement::Paged);
    let packed = BlockLayout::of(&weights(), Arrangement::Packed);
    let mut from = vec![0_u8; paged.slab_bytes()];
    let mut count = 0_u8;
    for (_, part) in paged.parts() {
        for byte in &mut from[part.offset..part.offset + part.bytes] {
            count = count.wrapping_add(7);
            *byte = count;
        }
    }
    let mut to = vec![0_u8; packed.slab_bytes()];
    let moves = paged.moves_to(&packed);
    for step in &moves {
        to[step.to..step.to + step.bytes].copy_from_slice(&from[step.from..step.from + step.bytes]);
    }
    let mut expected = 0_u8;
    for (_, part) in packed.parts() {
        for &byte in &to[part.offset..part.offset + part.bytes] {
            expected = expected.wrapping_add(7);
            assert_eq!(byte, expected);
        }
    }
    assert_eq!(moves.len(), 4);
    assert_eq!(packed.moves_to(&packed).len(), 1);
}
