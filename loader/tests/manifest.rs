//! The manifest of checksums: made, written, read again, and held against a checkpoint that is not
//! the one it was made of.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::fs;

use common::{Made, make};
use loader::synth::SynthSpec;
use loader::{Arrangement, Checkpoint, Error, Family, MANIFEST, Manifest};

const DOWN: &str = "model.layers.1.mlp.down_proj.weight";

fn summed() -> Made {
    let made = make(&SynthSpec::tiny(Family::QWEN3));
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let mut bytes = 0;
    let manifest = Manifest::of(&checkpoint, &mut |read| bytes += read).unwrap();
    assert_eq!(manifest.tensors(), checkpoint.tensors().count());
    assert!(bytes > 0 && bytes < checkpoint.stored_bytes());
    fs::write(made.dir.join(MANIFEST), manifest.to_json().unwrap()).unwrap();
    assert_eq!(Manifest::read(&checkpoint).unwrap(), Some(manifest));
    made
}

/// Flips one bit of a tensor's last byte.
fn damage(made: &Made, tensor: &str) {
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let entry = checkpoint.tensor(tensor).unwrap();
    let file = made.dir.join("model.safetensors");
    let mut bytes = fs::read(&file).unwrap();
    bytes[(entry.offset + entry.bytes - 1) as usize] ^= 1;
    fs::write(&file, bytes).unwrap();
}

#[test]
fn one_flipped_bit_is_found_with_its_tensor_and_file() {
    let made = summed();
    let differing = || {
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let manifest = Manifest::read(&checkpoint).unwrap().unwrap();
        manifest.mismatches(&checkpoint, &mut |_| {}).unwrap()
    };
    assert_eq!(differing(), []);
    damage(&made, DOWN);
    let [only] = &differing()[..] else {
        panic!("{:?}", differing())
    };
    assert_eq!(only.tensor, DOWN);
    assert!(only.file.ends_with("model.safetensors"), "{only:?}");

    // The same in the slab that it is read into.
    let checkpoint = Checkpoint::open(&made.dir).unwrap();
    let manifest = Manifest::read(&checkpoint).unwrap().unwrap();
    for layer in 0..3 {
        let block = checkpoint.block(layer, None, Arrangement::Paged).unwrap();
        let mut slab = vec![0; block.slab_bytes()];
        loader::read_block(
            checkpoint.sources(),
            &block,
            &mut slab,
            loader::Access::Buffered,
        )
        .unwrap();
        match manifest.check(&checkpoint, &block, &slab) {
            Err(Error::Altered { tensor, .. }) => assert_eq!((layer, &tensor[..]), (1, DOWN)),
            other => assert!(layer != 1 && other.is_ok(), "{layer}: {other:?}"),
        }
    }
}

#[test]
fn what_was_made_of_other_files_says_so() {
    let made = summed();
    let manifest = made.dir.join(MANIFEST);
    let good = fs::read_to_string(&manifest).unwrap();
    let check = |text: &str, difference: &str| {
        fs::write(&manifest, text).unwrap();
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        match Manifest::read(&checkpoint).unwrap_err() {
            error @ Error::StaleManifest { .. } => {
                assert!(error.to_string().contains(difference), "{error}");
                assert!(error.hint().unwrap().contains("engine checksum"));
            }
            other => panic!("{other}"),
        }
    };
    check(&good.replace("xxh3-128", "crc32"), "crc32");
    check(
        &good.replace("\"model.safetensors\"", "\"other.safetensors\""),
        "model.safetensors",
    );
    check(
        &good.replace(DOWN, "model.layers.9.mlp.down_proj.weight"),
        DOWN,
    );
    let bytes = fs::metadata(made.dir.join("model.safetensors"))
        .unwrap()
        .len();
    check(
        &good.replace(&format!("{bytes},"), &format!("{},", bytes + 1)),
        "had",
    );
}

#[test]
fn an_untrusted_manifest_is_an_error_and_not_a_panic() {
    let made = summed();
    let deep = "[".repeat(100_000);
    for text in [
        "",
        "{}",
        "[]",
        "{\"algorithm\":\"xxh3-128\",\"files\":{\"a\":{\"bytes\":-1}}}",
        &deep,
    ] {
        fs::write(made.dir.join(MANIFEST), text).unwrap();
        let checkpoint = Checkpoint::open(&made.dir).unwrap();
        let read = Manifest::read(&checkpoint);
        assert!(
            matches!(read, Err(Error::Json { .. })),
            "{text:.40}: {read:?}"
        );
    }
    // Of two sums of one tensor, neither is expected.
    let good = summed();
    let text = fs::read_to_string(good.dir.join(MANIFEST)).unwrap();
    let sum = format!("\"{DOWN}\": \"{}\",", "0".repeat(32));
    let twice = text.replacen(&format!("\"{DOWN}\""), &format!("{sum} \"{DOWN}\""), 1);
    fs::write(good.dir.join(MANIFEST), twice).unwrap();
    let read = Manifest::read(&Checkpoint::open(&good.dir).unwrap());
    let error = read.unwrap_err().to_string();
    assert!(
        error.contains(&format!("{DOWN}` is given twice")),
        "{error}"
    );
}
