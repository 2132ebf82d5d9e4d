//! The operating system; knows nothing of Telegram.
