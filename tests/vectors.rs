//! The test vectors of the wire formats, as independent code made them and as unmodified clients
//! left them on the wire. `tests/data/` holds the files.

mod vectors {
    mod hellos;
    mod read;
    mod sessions;
    mod shape;
    mod small;
    mod streams;
}
