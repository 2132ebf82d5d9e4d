//! The event loop that joins the floors below.
