//! Who may, and how much. Deterministic; time and randomness are parameters.
