//! The head: the last weight that a pass needs. Where layers are streamed from disk it need not be
//! there when the first pass begins, and is read beside its layers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use loader::{Access, BlockSource, Storage};
use offload::SlabBytes;

use crate::error::EngineError;
use crate::weights::background::Background;
use crate::weights::weight::Weight;

#[derive(Debug)]
pub struct Head {
    /// What it is read into.
    slab: SlabBytes,
    weight: Weight,
    /// Bytes of the checkpoint, if it is read later.
    bytes_beside: u64,
    /// It is not wanted any more. (The state's thread is waited for after this was raised.)
    dropped: Arc<AtomicBool>,
    state: Mutex<State>,
}

impl Drop for Head {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
enum State {
    There,
    Later(Reading),
    Coming(Background<Result<(), EngineError>>),
    Failed,
}

/// Where it is read from, and how.
#[derive(Debug, Clone)]
pub struct Reading {
    pub source: BlockSource,
    pub storages: Vec<Arc<dyn Storage>>,
    pub access: Access,
}

impl Reading {
    fn run(&self, to: &mut [u8], stop: &AtomicBool) -> Result<(), loader::Error> {
        loader::read_block_unless(stop, &self.storages, &self.source, to, self.access)
    }
}

impl Head {
    /// One that has been read.
    pub fn there(weight: Weight) -> Self {
        Self::new(weight.bytes.clone(), weight, 0, State::There)
    }

    /// One that is read into `slab`, host memory that nothing else uses, when [`Head::begin`] says
    /// so.
    pub fn later(slab: SlabBytes, reading: Reading) -> Self {
        let weight = Weight::of(&reading.source, &slab);
        let bytes_beside = reading.source.stored_bytes();
        Self::new(slab, weight, bytes_beside, State::Later(reading))
    }

    fn new(slab: SlabBytes, weight: Weight, bytes_beside: u64, state: State) -> Self {
        Self {
            slab,
            weight,
            bytes_beside,
            dropped: Arc::default(),
            state: Mutex::new(state),
        }
    }

    /// Begins to read it, if that has not begun.
    pub fn begin(&self) -> Result<(), EngineError> {
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let State::Later(reading) = state else {
            return Ok(());
        };
        let (to, reading) = (self.slab.clone(), reading.clone());
        let stop = Arc::clone(&self.dropped);
        *state = State::Coming(Background::start("head", move |answer| {
            let done = || {
                to.write(|to| reading.run(to, &stop))?
                    .map_err(|error| EngineError::unread("the head", error))
            };
            // It may not be wanted any more.
            let _ = answer.send(done());
        })?);
        Ok(())
    }

    /// Waits until it is there, or the flag is raised.
    pub fn bytes(&self, cancel: &AtomicBool) -> Result<&Weight, EngineError> {
        self.begin()?;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Coming(reading) = &mut *state {
            let done = reading.answer(cancel)?;
            *state = match done {
                Ok(()) => State::There,
                Err(_) => State::Failed,
            };
            done?;
        }
        match &*state {
            State::Failed => Err(EngineError::NoHead),
            _ => Ok(&self.weight),
        }
    }

    /// Bytes of the checkpoint that are not waited for before the head is asked for.
    pub fn bytes_beside(&self) -> u64 {
        self.bytes_beside
    }

    pub fn len_bytes(&self) -> usize {
        self.weight.bytes.len_bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use loader::synth::{self, SynthSpec};
    use loader::{AccessReport, Arrangement, Checkpoint, Error, Family, Whole};

    use super::*;
    use crate::model::demo;

    /// Reads when it is told to, unless it is told to fail.
    #[derive(Debug)]
    struct Held {
        file: Arc<dyn Storage>,
        told: Mutex<Receiver<bool>>,
    }

    impl Storage for Held {
        fn name(&self) -> &str {
            "held.safetensors"
        }

        fn len(&self) -> u64 {
            self.file.len()
        }

        fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
            match self
                .told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .recv()
            {
                Ok(true) => self.file.read_at(offset, buf),
                _ => Err(Error::Shrunk {
                    file: self.name().into(),
                    expected_bytes: self.len(),
                    found_bytes: 0,
                }),
            }
        }

        fn access_report(&self) -> AccessReport {
            self.file.access_report()
        }
    }

    /// A head whose one file waits to be told, and what it is to be.
    fn held(checkpoint: &Checkpoint, told: Receiver<bool>) -> Result<(Head, Vec<u8>), EngineError> {
        let source = checkpoint.weight(Whole::LmHead, None, Arrangement::Paged)?;
        let slab = SlabBytes::host(source.slab_bytes())?;
        let mut all = vec![0; source.slab_bytes()];
        let access = Access::Buffered;
        loader::read_block(checkpoint.sources(), &source, &mut all, access)?;
        let (_, part) = source.layout().parts().next().unwrap();
        let expected = all[part.offset..part.offset + part.bytes].to_vec();
        let [file] = checkpoint.sources() else {
            unreachable!("these models are one file");
        };
        let held = Arc::new(Held {
            file: Arc::clone(file),
            told: Mutex::new(told),
        });
        let reading = Reading {
            source,
            storages: vec![held],
            access,
        };
        Ok((Head::later(slab, reading), expected))
    }

    #[test]
    fn a_head_that_does_not_come_is_given_up_and_can_be_waited_for_again() {
        let (tell, told) = channel();
        let (head, expected) = held(&demo::checkpoint().unwrap(), told).unwrap();
        let cancel = AtomicBool::new(true);
        let from = Instant::now();
        let given_up = head.bytes(&cancel).unwrap_err();
        assert!(matches!(given_up, EngineError::Interrupted), "{given_up}");
        assert!(from.elapsed() < Duration::from_secs(2));
        cancel.store(false, Ordering::Relaxed);
        for _ in 0..100 {
            let _ = tell.send(true);
        }
        for _ in 0..2 {
            let found = head.bytes(&cancel).unwrap();
            let found = found.bytes.read(<[u8]>::to_vec).unwrap();
            assert!(found == expected);
        }
    }

    #[test]
    fn a_head_that_is_not_wanted_any_more_is_not_read_to_its_end() {
        // Ten reads.
        let spec = SynthSpec {
            hidden_size: 512,
            vocab_size: 20_000,
            tied_embeddings: true,
            ..SynthSpec::tiny(Family::LLAMA).with_layers(1)
        };
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model");
        synth::write(&path, &spec, &mut |_, _| {}).unwrap();
        let (tell, told) = channel();
        let (head, _) = held(&Checkpoint::open(&path).unwrap(), told).unwrap();
        head.begin().unwrap();
        let dropped = Arc::clone(&head.dropped);
        let (over, is_over) = channel();
        let dropping = thread::spawn(move || {
            drop(head);
            over.send(()).unwrap();
        });
        while !dropped.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        // Those that have begun end; none of the others waits to be told.
        for _ in 0..loader::READ_THREADS {
            // There is no receiver if none had begun.
            let _ = tell.send(true);
        }
        is_over.recv_timeout(Duration::from_secs(20)).unwrap();
        dropping.join().unwrap();
    }

    #[test]
    fn a_head_that_cannot_be_read_is_never_taken_for_one_that_was() {
        let (tell, told) = channel();
        let (head, _) = held(&demo::checkpoint().unwrap(), told).unwrap();
        tell.send(false).unwrap();
        drop(tell);
        let cancel = AtomicBool::new(false);
        let failed = head.bytes(&cancel).unwrap_err();
        assert!(
            failed.to_string().starts_with("the head could not be read"),
            "{failed}"
        );
        for _ in 0..2 {
            let gone = head.bytes(&cancel).unwrap_err();
            assert!(matches!(gone, EngineError::NoHead), "{gone}");
        }
    }
}
