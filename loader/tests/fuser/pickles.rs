//! Pickles that mean harm, make no sense or have no end: nothing that one names is ever run.

use crate::hostile::{refused_pickle, refused_tensors, small};
use crate::torch::{Pickle, Tensor};

#[test]
fn pickles_that_would_run_something() {
    let run = |module: &str, name: &str| {
        let mut pickle = Pickle::new();
        pickle.global(module, name).text("echo");
        pickle.raw(b"\x85R.").bytes.clone()
    };
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("torch._utils", "_rebuild_parameter"),
        ("torch", "load"),
        ("torch.storage", "UntypedStorage"),
        ("collections", "namedtuple"),
    ] {
        refused_pickle(
            &run(module, name),
            &[&format!("the pickle would run {module}.{name}")],
        );
    }
    let mut newer = Pickle::newer();
    newer.global("os", "system");
    refused_pickle(&newer.bytes, &["the pickle would run os.system"]);
    refused_pickle(
        b"\x80\x02(X\x02\0\0\0idios\nsystem\n.",
        &["the pickle would run os.system"],
    );
    // What only makes objects is refused, too.
    for opcode in [
        b'o', 0x81, 0x82, 0x92, b'P', b'F', b'G', b']', b'S', 0x8e, 0x98,
    ] {
        let text = format!("instruction {opcode:#04x} at 3");
        refused_pickle(&[0x80, 2, b'}', opcode, 0, 0, 0, b'.'], &[&text]);
    }
    let long = "x".repeat(5000);
    refused_pickle(&run(&long, "y"), &["would run xxxx"]);
}

#[test]
fn pickles_that_make_no_sense() {
    let (_, tensors) = small();
    let starting = |bytes: &[u8]| [&[0x80, 2], bytes].concat();
    let cases: [(&[u8], &str); 19] = [
        (b"", "ends within an instruction"),
        (b".", "a value where there is none"),
        (b"}(.", "a value where there is none"),
        (b"}}.", "more than one value"),
        (b"}.}", "goes on after its end"),
        (b"t.", "a list ends that never began"),
        (b"N}}s.", "fills what is no dict"),
        (b"}(Nu.", "a key has no value"),
        (b"}NQ.", "names a storage"),
        (b"})Q.", "names a storage"),
        (b"}NR.", "a call has no arguments"),
        (b"N)R.", "calls what is no function"),
        (
            b"ccollections\nOrderedDict\nN\x85R.",
            "a dict is made of something",
        ),
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n)R.",
            "made of something else than a storage",
        ),
        (b"NNb.", "changes what is no dict"),
        (b"}}(NNNNub.", "changes more of a dict"),
        (b"h\x05.", "recalls what it never kept"),
        (b"\x8a\x09123456789.", "more than 64 bits"),
        (b"X\x01\0\0\0\xff.", "not UTF-8"),
    ];
    for (pickle, expected) in cases {
        refused_pickle(&starting(pickle), &["pickle", expected]);
    }
    refused_pickle(&starting(b"N."), &["holds no weights by name, but nothing"]);
    refused_pickle(
        &starting(b"}(X\x01\0\0\0xNu."),
        &["entry x is no tensor, but nothing"],
    );
    refused_pickle(
        &starting(b"}(NNu."),
        &["without a name is no tensor, but nothing"],
    );
    refused_pickle(b"\x80\x01}.", &["protocol 1"]);
    refused_pickle(b"}\x80\x02.", &["the protocol is not the first"]);
    // A text and a frame that claim all there is.
    refused_pickle(&starting(b"X\xff\xff\xff\xffab"), &["ends within a text"]);
    refused_pickle(
        &starting(b"\x95\xff\xff\xff\xff\xff\xff\xff\xff"),
        &["ends within a frame"],
    );
    let mut hooked = Pickle::new();
    let good = Pickle::new().tensor(&tensors[0]).bytes[2..].to_vec();
    let hooks = good.len() - 9;
    assert_eq!(good[hooks], b'R');
    hooked
        .raw(&good[..=hooks])
        .raw(b"(NNu")
        .raw(&good[hooks + 1..]);
    refused_pickle(&hooked.bytes, &["a tensor has hooks, which would run"]);
}

#[test]
fn pickles_without_end() {
    let starting = |bytes: Vec<u8>| [&[0x80, 2][..], &bytes].concat();
    let deep = starting(vec![b'('; 100_000]);
    refused_pickle(&deep, &["more than 64 lists inside each other"]);
    let nested = starting([&b")"[..], &[0x85; 1_000_000]].concat());
    refused_pickle(&nested, &["more than 131072 instructions"]);
    let dicts = starting(vec![b'}'; 1_000_000]);
    refused_pickle(&dicts, &["more than 131072 instructions"]);
    let long = starting(vec![b'N'; 2 << 20]);
    refused_pickle(
        &long,
        &["the pickle of the archive has 2097154 bytes", "1048576"],
    );
    // A tuple that is long once, and used for ever.
    let mut sizes = Pickle::new();
    sizes.raw(b"(").raw(&[b'N'; 60_000]).raw(b"tq\x01");
    for _ in 0..20_000 {
        sizes.raw(b"h\x01h\x01b");
    }
    refused_pickle(&sizes.bytes, &["changes what is no dict"]);
    let tensor = Tensor {
        shape: vec![1; 9],
        strides: vec![1; 9],
        ..small().1[0].clone()
    };
    refused_tensors(
        |all| all[0] = tensor,
        &["more than 8 dimensions in a tensor"],
    );
}
