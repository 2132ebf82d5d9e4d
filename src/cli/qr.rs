//! Draws a link as a QR code for a terminal: two modules per character, one above the other. No web
//! service draws it, since the service would learn the secret.

#[cfg(feature = "qr")]
use std::io::IsTerminal;

#[cfg(feature = "qr")]
use qrcodegen::{QrCode, QrCodeEcc};

/// The QR code as lines of text.
///
/// # Errors
/// The text is too long.
#[cfg(feature = "qr")]
pub(super) fn draw(text: &str) -> Result<String, &'static str> {
    // The lowest level makes the smallest code. The library raises it if that costs no space.
    let code = QrCode::encode_text(text, QrCodeEcc::Low).map_err(|_| TOO_LONG)?;
    Ok(render(&code, std::io::stdout().is_terminal()))
}

/// # Errors
/// Always: this build has no QR codes.
#[cfg(not(feature = "qr"))]
pub(super) fn draw(_text: &str) -> Result<String, &'static str> {
    Err("this build has no QR codes; install the full mtbox, or copy the link")
}

/// For a terminal, sets black on white, so that its colours do not matter. Otherwise draws the
/// light modules, as a terminal with a dark background needs it.
#[cfg(feature = "qr")]
fn render(code: &QrCode, is_terminal: bool) -> String {
    let (size, quiet) = (code.size(), quiet_zone(code.size()));
    let is_dark = |x: i32, y: i32| code.get_module(x, y);
    let mut out = String::new();
    for y in (-quiet..size + quiet).step_by(2) {
        if is_terminal {
            out.push_str(BLACK_ON_WHITE);
        }
        for x in -quiet..size + quiet {
            // Below the last row of an odd code is the background of the terminal.
            let has_lower = y + 1 < size + quiet;
            let (upper, lower) = (is_dark(x, y), is_dark(x, y + 1));
            let drawn = match is_terminal {
                true => (upper, lower),
                false => (!upper, !lower && has_lower),
            };
            out.push(match drawn {
                (true, true) => '\u{2588}',
                (true, false) => '\u{2580}',
                (false, true) => '\u{2584}',
                (false, false) => ' ',
            });
        }
        if is_terminal {
            out.push_str(RESET);
        }
        out.push('\n');
    }
    out
}

/// The width of the light border in modules. The standard requires four, readers need one or two:
/// the widest border with which the code fits into a terminal of 24 lines.
#[cfg(feature = "qr")]
fn quiet_zone(size: i32) -> i32 {
    (1..=4).rev().find(|quiet| (size + 2 * quiet + 1) / 2 < LINES).unwrap_or(2)
}

#[cfg(feature = "qr")]
const LINES: i32 = 24;
#[cfg(feature = "qr")]
const BLACK_ON_WHITE: &str = "\x1b[38;5;16;48;5;231m";
#[cfg(feature = "qr")]
const RESET: &str = "\x1b[0m";
#[cfg(feature = "qr")]
const TOO_LONG: &str = "the link is too long for a QR code; use a shorter host name";

#[cfg(feature = "qr")]
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_gets_the_same_modules_black_on_white() {
        let code = QrCode::encode_text("tg://proxy?port=443", QrCodeEcc::Low).unwrap();
        let inverse = |c: char| match c {
            '\u{2588}' => ' ',
            '\u{2580}' => '\u{2584}',
            '\u{2584}' => '\u{2580}',
            _ => '\u{2588}',
        };
        let (dark, light) = (render(&code, false), render(&code, true));
        let plain: Vec<String> = light
            .lines()
            .map(|line| line.replace(BLACK_ON_WHITE, "").replace(RESET, ""))
            .map(|line| line.chars().map(inverse).collect())
            .collect();
        let dark: Vec<&str> = dark.lines().collect();
        // The lower half of the last line may be no module.
        assert_eq!(plain[..plain.len() - 1], dark[..dark.len() - 1]);
        assert!(light.lines().all(|line| line.starts_with("\x1b[") && line.ends_with(RESET)));
    }
}
