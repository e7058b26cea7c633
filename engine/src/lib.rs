//! Models, KV cache, kernels, sampling, generation and the profile.
