//! The embedding: a table of which a pass needs one row a token. Where layers are streamed from
//! disk it stays there with them, unless it is the head as well: its rows are read as tokens ask
//! for them, and the memory goes to layers.

use std::sync::atomic::AtomicBool;

use crossbeam_channel::{Sender, bounded};
use loader::{Checkpoint, DType, Encoding, Whole};

use crate::error::EngineError;
use crate::weights::background::Background;
use crate::weights::weight::Weight;

/// Where the rows come from.
#[derive(Debug)]
pub enum Embedding {
    Whole(Weight),
    OnDisk(Box<RowReader>),
}

/// Reads rows on a thread of its own.
#[derive(Debug)]
pub struct RowReader {
    row_bytes: usize,
    encoding: Encoding,
    /// Dropped before the thread is waited for: this is what ends it.
    ask: Sender<Batch>,
    thread: Background<Batch>,
    /// Not here while the thread has it: a pass that was given up does not wait for its rows.
    batch: Option<Batch>,
}

/// Goes to the thread and back.
#[derive(Debug)]
struct Batch {
    wanted: Vec<u32>,
    /// Words, so that whatever numbers the rows are made of lie straight.
    rows: Vec<u32>,
    done: Result<(), loader::Error>,
}

impl RowReader {
    /// The most rows at once.
    pub const ROWS: usize = 64;

    pub fn open(checkpoint: &Checkpoint, dtype: Option<DType>) -> Result<Self, EngineError> {
        let rows = checkpoint.rows(Whole::Embedding, dtype)?;
        Self::over(rows.row_bytes(), rows.encoding(), move |wanted, to| {
            rows.read(wanted, to)
        })
    }

    /// Memory taken for rows of so many bytes.
    pub fn buffer_bytes(row_bytes: usize) -> usize {
        (Self::ROWS * row_bytes).next_multiple_of(size_of::<u32>())
    }

    /// The encoding of the rows.
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn over(
        row_bytes: usize,
        encoding: Encoding,
        read: impl Fn(&[u32], &mut [u8]) -> Result<(), loader::Error> + Send + 'static,
    ) -> Result<Self, EngineError> {
        let (ask, asked) = bounded::<Batch>(1);
        let thread = Background::start("embedding", move |answer| {
            for mut batch in asked {
                let bytes = bytemuck::cast_slice_mut(&mut batch.rows);
                batch.done = read(&batch.wanted, &mut bytes[..batch.wanted.len() * row_bytes]);
                // It is taken, or the asking side is gone.
                let _ = answer.send(batch);
            }
        })?;
        Ok(Self {
            row_bytes,
            encoding,
            ask,
            thread,
            batch: Some(Batch {
                wanted: Vec::with_capacity(Self::ROWS),
                rows: vec![0; Self::buffer_bytes(row_bytes) / size_of::<u32>()],
                done: Ok(()),
            }),
        })
    }

    /// The rows of these tokens, at most [`RowReader::ROWS`], one after the other.
    pub fn bring(&mut self, tokens: &[u32], cancel: &AtomicBool) -> Result<&[u8], EngineError> {
        let mut batch = match self.batch.take() {
            Some(batch) => batch,
            None => self.thread.answer(cancel)?,
        };
        batch.wanted.clear();
        batch.wanted.extend_from_slice(tokens);
        // A thread that has died shows at its answer.
        let _ = self.ask.send(batch);
        let batch = self.thread.answer(cancel)?;
        let Batch { rows, done, .. } = self.batch.insert(batch);
        std::mem::replace(done, Ok(()))
            .map_err(|error| EngineError::unread("rows of the embedding", error))?;
        Ok(&bytemuck::cast_slice(rows)[..tokens.len() * self.row_bytes])
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::Duration;

    use super::*;

    /// Rows of two bytes, each its number.
    fn numbers(wanted: &[u32], to: &mut [u8]) {
        for (row, to) in wanted.iter().zip(to.chunks_exact_mut(2)) {
            to.copy_from_slice(&(*row as u16).to_le_bytes());
        }
    }

    #[test]
    fn a_read_that_hangs_is_given_up_and_its_rows_are_not_given_to_another() {
        let (go_on, hang) = bounded::<()>(0);
        let mut reader = RowReader::over(2, Encoding::Bf16, move |wanted, to| {
            if wanted == [7] {
                hang.recv().unwrap();
            }
            numbers(wanted, to);
            Ok(())
        })
        .unwrap();
        let cancel = Arc::<AtomicBool>::default();
        assert_eq!(
            reader.bring(&[1, 2, 3], &cancel).unwrap(),
            [1, 0, 2, 0, 3, 0]
        );
        let raised = Arc::clone(&cancel);
        let raising = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            raised.store(true, Ordering::Relaxed);
        });
        // Not only the rows are given up, but the next ones, too, while the disk still hangs.
        for tokens in [[7], [8]] {
            let given_up = reader.bring(&tokens, &cancel).unwrap_err();
            assert!(matches!(given_up, EngineError::Interrupted), "{given_up}");
        }
        raising.join().unwrap();
        go_on.send(()).unwrap();
        assert_eq!(reader.bring(&[9, 258], &cancel).unwrap(), [9, 0, 2, 1]);
    }

    #[test]
    fn a_failure_is_told_once_and_not_kept() {
        let fails = Mutex::new(true);
        let mut reader = RowReader::over(2, Encoding::Bf16, move |wanted, to| {
            numbers(wanted, to);
            match std::mem::take(&mut *fails.lock().unwrap()) {
                true => Err(loader::Error::NoSuchLayer {
                    layer: 5,
                    layers: 4,
                }),
                false => Ok(()),
            }
        })
        .unwrap();
        let cancel = AtomicBool::new(false);
        let failed = reader.bring(&[1], &cancel).unwrap_err();
        assert!(matches!(failed, EngineError::Unread { .. }), "{failed}");
        assert_eq!(reader.bring(&[1], &cancel).unwrap(), [1, 0]);
    }

    #[test]
    #[should_panic(expected = "a row too far")]
    fn a_panic_of_the_thread_is_not_swallowed() {
        let read = |wanted: &[u32], _: &mut [u8]| panic!("a row too far: {wanted:?}");
        let mut reader = RowReader::over(2, Encoding::Bf16, read).unwrap();
        let _ = reader.bring(&[1], &AtomicBool::new(false));
    }
}
