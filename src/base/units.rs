//! Sizes as people write them: `10m`, `1.5GiB`, `64 kb`. The texts of errors are go-units', which users know.

/// Why a text is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSize {
    #[error("invalid size: '{0}'")]
    Size(String),
    #[error("invalid suffix: '{0}'")]
    Suffix(String),
}

/// Reads a size whose `k`, `m`, `g` are powers of 1000, as in log options and `--max-size`.
pub fn decimal_size(text: &str) -> Result<u64, InvalidSize> {
    size(text, 1000.0)
}

/// Reads a size whose `k`, `m`, `g` are powers of 1024, as in memory limits and `--shm-size`.
pub fn binary_size(text: &str) -> Result<u64, InvalidSize> {
    size(text, 1024.0)
}

fn size(text: &str, step: f64) -> Result<u64, InvalidSize> {
    let invalid = || InvalidSize::Size(text.to_owned());
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(invalid)?;
    let (number, suffix) = text.split_at(last + 1);
    let number: f64 = number.strip_suffix(' ').unwrap_or(number).parse().map_err(|_| invalid())?;
    if !number.is_finite() || number.is_sign_negative() {
        return Err(invalid());
    }
    let power = power(suffix).ok_or_else(|| InvalidSize::Suffix(suffix.to_owned()))?;
    Ok((number * step.powi(power)) as u64)
}

fn power(suffix: &str) -> Option<i32> {
    let suffix = suffix.to_ascii_lowercase();
    let Some(unit) = suffix.chars().next() else { return Some(0) };
    if suffix == "b" {
        return Some(0);
    }
    let rest = &suffix[unit.len_utf8()..];
    let power = "kmgtp".find(unit)? as i32 + 1;
    matches!(rest, "" | "b" | "ib").then_some(power)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_go_units_reads_them() {
        for (text, decimal, binary) in [
            ("32", 32, 32),
            ("32b", 32, 32),
            ("32k", 32_000, 32_768),
            ("32KB", 32_000, 32_768),
            ("32 kiB", 32_000, 32_768),
            ("1.5g", 1_500_000_000, 1_610_612_736),
            ("0", 0, 0),
        ] {
            assert_eq!(decimal_size(text), Ok(decimal), "{text}");
            assert_eq!(binary_size(text), Ok(binary), "{text}");
        }
        for bad in ["", "hello", "-32", "32bb", "32kx", "32  kb", "1x", " 32 ", "1.2.3", "32 mbi"] {
            assert!(decimal_size(bad).is_err(), "{bad}");
        }
    }
}

#[cfg(test)]
mod properties {
    use proptest::prelude::*;

    use super::*;
    use crate::base::testing::cases;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn whole_numbers_are_exact_in_every_unit(
            number in 0..1u64 << 12,
            unit in 0..6usize,
            suffix in "(b|B|ib|iB)?",
        ) {
            let letter = ["", "k", "M", "g", "T", "p"][unit];
            let suffix = if letter.is_empty() { suffix.trim_start_matches('i') } else { &suffix };
            let text = format!("{number}{letter}{suffix}");
            prop_assert_eq!(binary_size(&text), Ok(number << (10 * unit)), "{}", text);
            prop_assert_eq!(decimal_size(&text), Ok(number * 1000u64.pow(unit as u32)), "{}", text);
        }

        #[test]
        fn a_larger_number_is_no_smaller_size(numbers in (any::<u64>(), any::<u64>()), unit in "[kmgtp]?") {
            let size = |number: u64| binary_size(&format!("{number}{unit}")).unwrap();
            prop_assert_eq!(size(numbers.0.min(numbers.1)), size(numbers.0).min(size(numbers.1)));
        }

        #[test]
        fn any_text_is_a_size_or_none(text in "[0-9.eE kKmbBié+-]{0,12}") {
            prop_assert_eq!(binary_size(&text).is_ok(), decimal_size(&text).is_ok());
        }
    }
}
