//! Test vectors of the wire formats: made by independent code, or recorded from unmodified clients.
//! The files are in `tests/data/`.

mod vectors {
    mod hellos;
    mod read;
    mod sessions;
    mod shape;
    mod small;
    mod streams;
}
