//! How memory is asked for ahead is chosen for the whole process, and each model that is loaded
//! chooses anew. In a process of its own, where no other test loads a model meanwhile.

use engine::kernels::{Asking, Level};
use engine::{Model, ModelOptions, Source};

#[test]
fn a_model_that_nothing_was_timed_for_asks_as_usual() {
    let level = Level::detect();
    let usual = Asking::usual(level);
    let other = Asking::all(level).iter().find(|asking| **asking != usual);
    other.unwrap().choose();
    assert_ne!(Asking::current(level), usual);
    let model = Model::open(&Source::Demo, ModelOptions::default()).unwrap();
    assert!(model.blueprint().forms.is_none());
    assert_eq!(Asking::current(level), usual);
}
