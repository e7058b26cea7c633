//! A projector's weights as the kernels take them.

use kernels::{HalfWeights, Matrix, MlpWeights, ProjectorWeights, Weights};
use loader::{BlockLayout, Half, Placement, ProjectorPart, Role};

use crate::compute::fast::{matrix_of, numbers_of};

pub(super) fn weights<'a>(layout: &BlockLayout, bytes: &'a [u8]) -> ProjectorWeights<'a> {
    ProjectorWeights {
        key: half(layout, bytes, Half::Key),
        value: half(layout, bytes, Half::Value),
    }
}

/// `None`: its gate is closed, and it has no weights here.
fn half<'a>(layout: &BlockLayout, bytes: &'a [u8], half: Half) -> Option<HalfWeights<'a>> {
    use ProjectorPart::{Down, HeadGate, HeadGateBias, In, InBias, Norm, Out, OutBias, Up};
    let find = |part| layout.get(Role::Projector(half, part));
    find(In)?;
    let place = |part| -> &Placement {
        match find(part) {
            Some(place) => place,
            None => unreachable!("a projector without {part:?}: its layout was checked"),
        }
    };
    let matrix = |part| -> Matrix<'a> { matrix_of(place(part), bytes) };
    let vector = |part| -> Weights<'a> { numbers_of(place(part), bytes) };
    let block = |index| MlpWeights {
        norm: vector(Norm(index)),
        up: matrix(Up(index)),
        down: matrix(Down(index)),
    };
    let rest = (2..).take_while(|&index| find(Norm(index)).is_some());
    Some(HalfWeights {
        input: matrix(In),
        input_bias: vector(InBias),
        first: block(0),
        scalar: block(1),
        head_gate: matrix(HeadGate),
        head_gate_bias: vector(HeadGateBias),
        rest: rest.map(block).collect(),
        out: matrix(Out),
        out_bias: vector(OutBias),
    })
}
