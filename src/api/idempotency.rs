//! `Idempotency-Key`.
