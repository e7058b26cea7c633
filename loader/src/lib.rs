//! What a checkpoint says and where its bytes are. Knows no device and no tensor library.
