//! Archives that are damaged, and tensors that are not where they say.

use crate::hostile::{opens, refused, refused_entries, refused_tensors, small, write};
use crate::torch::{self, Entry, Pickle, Tensor, Zip};

#[test]
fn tensors_that_are_not_where_they_say() {
    let matrix = |all: &mut Vec<Tensor>| {
        let at = all
            .iter()
            .position(|it| it.name == "key_in.weight")
            .unwrap();
        all.swap(0, at);
    };
    let change = |change: fn(&mut Tensor), expected: &[&str]| {
        refused_tensors(
            |all| {
                matrix(all);
                change(&mut all[0]);
            },
            &[&["tensor"], expected].concat(),
        );
    };
    change(
        |it| it.strides = vec![1, 2],
        &["key_in.weight of shape [2, 4]", "strides are [1, 2]"],
    );
    change(|it| it.strides = vec![4, 0], &["row by row"]);
    change(|it| it.strides = vec![1], &["row by row"]);
    change(
        |it| it.offset = 1,
        &["needs 9 numbers of its storage", "has 8"],
    );
    change(|it| it.offset = i64::MAX, &["numbers of its storage"]);
    change(|it| it.offset = -1, &["begins before its storage"]);
    change(|it| it.shape = vec![-2, 4], &["sizes that are none"]);
    change(
        |it| (it.shape, it.strides) = (vec![4, 4], vec![4, 1]),
        &["needs 16 numbers"],
    );
    change(
        |it| it.shape = vec![i64::MAX, i64::MAX],
        &["impossible shape"],
    );
    change(|it| it.shape = vec![1 << 61, 2], &["impossible shape"]);
    change(
        |it| it.numbers = 9,
        &["needs 36 bytes, and the archive has 32"],
    );
    change(|it| it.numbers = i64::MAX, &["numbers of its storage"]);
    refused_tensors(
        |all| {
            matrix(all);
            all[0].numbers = -1;
        },
        &["names a storage"],
    );
}

#[test]
fn tensors_that_share_bytes() {
    for offset in [0, 1] {
        refused_tensors(
            |all| {
                let (numbers, data) = (2 + offset, vec![0; 8 + 4 * offset as usize]);
                let mut biases = all.iter_mut().filter(|it| it.name.ends_with("_in.bias"));
                for offset in [0, offset] {
                    let bias = biases.next().unwrap();
                    bias.key = "shared".into();
                    (bias.numbers, bias.offset, bias.data) = (numbers, offset, data.clone());
                }
            },
            &["tensors key_in.bias and value_in.bias overlap"],
        );
    }
    // Side by side is fine, and so are numbers that no tensor has.
    let (made, mut tensors) = small();
    for (offset, bias) in tensors
        .iter_mut()
        .filter(|it| it.name.ends_with("_in.bias"))
        .enumerate()
    {
        bias.key = "shared".into();
        (bias.numbers, bias.offset, bias.data) = (7, 3 * offset as i64, vec![1; 28]);
    }
    write(&made, &torch::file(&tensors));
    opens(&made, "side by side").unwrap();
    refused_tensors(
        |all| {
            let twin = all[0].clone();
            all.push(twin);
        },
        &["is listed twice"],
    );
}

#[test]
fn archives_that_are_none() {
    let find = |entries: &mut Vec<Entry>| {
        entries
            .iter()
            .position(|it| it.name.ends_with("/data/3"))
            .unwrap()
    };
    let data = |change: fn(&mut Entry)| {
        move |entries: &mut Vec<Entry>| {
            let at = find(entries);
            change(&mut entries[at]);
        }
    };
    use Zip::{Plain, Torch, Wide};
    let named = "projector_0/data/3 in the archive";
    refused_entries(Torch, data(|it| it.method = 8), &[named, "is compressed"]);
    refused_entries(
        Torch,
        |all| all[0].method = 8,
        &["data.pkl in the archive is compressed"],
    );
    refused_entries(Torch, data(|it| it.flags |= 1), &[named, "it is encrypted"]);
    refused_entries(
        Torch,
        data(|it| it.local_name = Some("projector_0/data/4".into())),
        &["another name"],
    );
    refused_entries(
        Torch,
        data(|it| it.local_name = Some("x".into())),
        &["another name"],
    );
    refused_entries(
        Plain,
        data(|it| it.local_size = Some(1)),
        &[named, "another size"],
    );
    refused_entries(
        Torch,
        data(|it| it.local_size = Some(1)),
        &[named, "another size"],
    );
    refused_entries(
        Torch,
        data(|it| it.listed_bytes = Some(1 << 31)),
        &[named, "into the directory"],
    );
    refused_entries(
        Wide,
        data(|it| it.listed_bytes = Some(u32::MAX)),
        &["into the directory"],
    );
    refused_entries(
        Torch,
        data(|it| it.listed_bytes = Some(u32::MAX)),
        &["sizes in 64 bits are missing"],
    );
    refused_entries(
        Torch,
        data(|it| it.listed_at = Some(1 << 31)),
        &["not before the directory"],
    );
    refused_entries(
        Torch,
        data(|it| it.listed_at = Some(1)),
        &["no header where it should begin"],
    );
    refused_entries(
        Torch,
        data(|it| it.name = "projector_0/data/4".into()),
        &["listed twice"],
    );
    refused_entries(
        Torch,
        data(|it| it.name = "x/data/3".into()),
        &["has no projector_0/data/3"],
    );
    refused_entries(
        Torch,
        |all| all[0].name = "data.pickle".into(),
        &["no data.pkl in a folder"],
    );
    refused_entries(
        Torch,
        |all| all[1] = Entry::new("x/data.pkl", ""),
        &["two pickles"],
    );
    refused_entries(
        Torch,
        |all| all[1].data = b"big".to_vec(),
        &["byteorder is \"big\""],
    );
    refused_entries(
        Torch,
        |all| all[1].data = vec![b' '; 17],
        &["the byteorder of the archive has 17"],
    );

    let (made, tensors) = small();
    let entries = torch::entries(Pickle::new().state_dict(&tensors), &tensors);
    let archive = torch::zip(&entries, Torch);
    let (end, directory) = (archive.end_at, archive.directory_at);
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = archive.bytes.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        file
    };
    refused(&made, b"", &["does not end as a zip"]);
    refused(&made, &[0x80; 100], &["does not end as a zip"]);
    refused(&made, &patched(end + 4, &[1]), &["two ends"]);
    refused(
        &made,
        &patched(end + 12, &[0xff; 3]),
        &["two ends say different things"],
    );
    refused(
        &made,
        &patched(end - 20 + 8, &[0xff; 8]),
        &["end in 64 bits is not where"],
    );
    refused(
        &made,
        &patched(end - 76, b"XX"),
        &["end in 64 bits is not where"],
    );
    refused(&made, &patched(end - 76 + 40, &[0xff; 8]), &["two ends"]);
    refused(
        &made,
        &patched(directory, b"XX"),
        &["something else than entries"],
    );
    refused(&made, &patched(directory + 28, &[0xff; 2]), &["cut short"]);
    refused(&made, &patched(directory + 46, &[0xff]), &["not UTF-8"]);
    let plain = torch::zip(&entries, Plain);
    let patched = |at: usize, bytes: &[u8]| {
        let mut file = plain.bytes.clone();
        file[plain.end_at + at..plain.end_at + at + bytes.len()].copy_from_slice(bytes);
        file
    };
    refused(&made, &patched(4, &[1]), &["one of several parts"]);
    refused(
        &made,
        &patched(8, &[1, 0, 1, 0]),
        &["goes on after the last entry"],
    );
    refused(&made, &patched(8, &[0xff; 4]), &["cut short"]);
    refused(
        &made,
        &patched(16, &[0xff; 4]),
        &["not in front of its end"],
    );

    // A directory that is too long, with a comment behind it.
    let mut many = entries.clone();
    many.extend((0..12_000).map(|at| Entry::new(format!("projector_0/more/{at:050}"), "")));
    refused(
        &made,
        &torch::zip(&many, Plain).bytes,
        &["the directory of the archive has"],
    );
    let mut commented = plain.bytes.clone();
    commented[plain.end_at + 20..].copy_from_slice(&[5, 0]);
    commented.extend(b"PK\x05\x06!");
    write(&made, &commented);
    opens(&made, "a comment").unwrap();
}
