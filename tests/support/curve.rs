//! Checks that a key share is valid for its group (PROTOCOL 4.2).
//!
//! Arithmetic modulo 2^255 - 19 with sixteen 16-bit limbs: slow, short and easy to check.

/// A number below 2^256, little-endian limbs, reduced only at the end.
type Number = [u64; 16];

/// `u` is the coordinate of a point on Curve25519 itself, not on its twist:
/// u^3 + 486662 u^2 + u is a square (Euler: its (p-1)/2-th power is 1 or 0).
pub fn is_on_curve25519(u: &[u8]) -> bool {
    let mut x: Number = [0; 16];
    for (limb, pair) in x.iter_mut().zip(u.chunks_exact(2)) {
        *limb = u64::from(u16::from_le_bytes([pair[0], pair[1]]));
    }
    // RFC 7748 section 5: the top bit is not part of the number.
    x[15] &= 0x7fff;
    let mut a: Number = [0; 16];
    (a[0], a[1]) = (486_662 & 0xffff, 486_662 >> 16);
    let mut one: Number = [0; 16];
    one[0] = 1;
    // x * (x * (x + a) + 1)
    let right = times(&x, &plus(&times(&x, &plus(&x, &a)), &one));
    // (p - 1) / 2 = 2^254 - 10: in binary 253..0 all ones except the lowest, 246 = 1111_0110b.
    let mut power = one;
    for bit in (0..254).rev() {
        power = times(&power, &power);
        if !matches!(bit, 0 | 3) {
            power = times(&power, &right);
        }
    }
    let value = canonical(power);
    value == one || value == [0; 16]
}

/// The log likelihood ratio, in nats, of `ciphertext` (1088 bytes) under ML-KEM-768's compression
/// against uniform bytes, over its 768 ten-bit symbols: +6.6 or -6.2 on average.
pub fn mlkem_score(ciphertext: &[u8]) -> f64 {
    let mut hits = [0u32; 1024];
    for residue in 0..3329u32 {
        hits[(((residue << 11) + 3329) / 6658 % 1024) as usize] += 1;
    }
    let symbols = ciphertext[..960].chunks_exact(5).flat_map(|five| {
        let word = five.iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
        (0..4).map(move |index| (word >> (10 * index) & 0x3ff) as usize)
    });
    symbols.map(|symbol| (f64::from(hits[symbol]) * 1024.0 / 3329.0).ln()).sum()
}

fn plus(a: &Number, b: &Number) -> Number {
    let mut sum = *a;
    for (limb, other) in sum.iter_mut().zip(b) {
        *limb += other;
    }
    carried(sum)
}

fn times(a: &Number, b: &Number) -> Number {
    let mut wide = [0u64; 31];
    for (i, left) in a.iter().enumerate() {
        for (j, right) in b.iter().enumerate() {
            wide[i + j] += left * right;
        }
    }
    let mut product: Number = [0; 16];
    product.copy_from_slice(&wide[..16]);
    for (limb, high) in product.iter_mut().zip(&wide[16..]) {
        // 2^256 = 38 modulo p.
        *limb += 38 * high;
    }
    carried(carried(product))
}

/// Reduces every limb to about 16 bits.
fn carried(mut number: Number) -> Number {
    for _ in 0..2 {
        let mut carry = 0;
        for limb in &mut number {
            *limb += carry;
            carry = *limb >> 16;
            *limb &= 0xffff;
        }
        number[0] += 38 * carry;
    }
    number
}

/// The least non-negative representative.
fn canonical(number: Number) -> Number {
    let mut value = carried(carried(number));
    // 2^255 = 19 modulo p.
    let top = value[15] >> 15;
    value[15] &= 0x7fff;
    value[0] += 19 * top;
    value = carried(value);
    // Adding 19 overflows bit 255 exactly when the value is p or more.
    let mut probe = value;
    probe[0] += 19;
    probe = carried(probe);
    if probe[15] >> 15 == 1 {
        probe[15] &= 0x7fff;
        return probe;
    }
    value
}

#[test]
fn the_base_point_is_on_the_curve_and_two_is_on_its_twist() {
    let mut u = [0; 32];
    u[0] = 9;
    assert!(is_on_curve25519(&u));
    u[0] = 2;
    assert!(!is_on_curve25519(&u));
}
