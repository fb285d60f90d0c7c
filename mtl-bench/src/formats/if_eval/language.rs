//! Language of a text by its script and trigrams: Cavnar and Trenkle, *N-Gram-Based Text Categorization*, 1994.
use super::LanguageId;
use whatlang::Lang;

/// Detection by script and trigrams, with the crate `whatlang` (70 languages; Swahili and Welsh are not among them).
///
/// ```
/// use mtl_bench::formats::if_eval::{LanguageId, Trigrams};
///
/// assert_eq!(Trigrams.detect("Das ist ein ganz gewöhnlicher Satz über das Wetter."), Some("de"));
/// assert_eq!(Trigrams.detect("1, 2, 3"), None);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trigrams;

impl LanguageId for Trigrams {
    fn detect(&self, text: &str) -> Option<&'static str> {
        whatlang::detect(text).map(|info| code(info.lang()))
    }
}

fn code(language: Lang) -> &'static str {
    const CODES: [(&str, &str); 70] = [
        ("afr", "af"),
        ("aka", "ak"),
        ("amh", "am"),
        ("ara", "ar"),
        ("aze", "az"),
        ("bel", "be"),
        ("ben", "bn"),
        ("bul", "bg"),
        ("cat", "ca"),
        ("ces", "cs"),
        ("cmn", "zh"),
        ("cym", "cy"),
        ("dan", "da"),
        ("deu", "de"),
        ("ell", "el"),
        ("eng", "en"),
        ("epo", "eo"),
        ("est", "et"),
        ("fin", "fi"),
        ("fra", "fr"),
        ("guj", "gu"),
        ("heb", "he"),
        ("hin", "hi"),
        ("hrv", "hr"),
        ("hun", "hu"),
        ("hye", "hy"),
        ("ind", "id"),
        ("ita", "it"),
        ("jav", "jv"),
        ("jpn", "ja"),
        ("kan", "kn"),
        ("kat", "ka"),
        ("khm", "km"),
        ("kor", "ko"),
        ("lat", "la"),
        ("lav", "lv"),
        ("lit", "lt"),
        ("mal", "ml"),
        ("mar", "mr"),
        ("mkd", "mk"),
        ("mya", "my"),
        ("nep", "ne"),
        ("nld", "nl"),
        ("nob", "no"),
        ("ori", "or"),
        ("pan", "pa"),
        ("pes", "fa"),
        ("pol", "pl"),
        ("por", "pt"),
        ("ron", "ro"),
        ("rus", "ru"),
        ("sin", "si"),
        ("slk", "sk"),
        ("slv", "sl"),
        ("sna", "sn"),
        ("spa", "es"),
        ("srp", "sr"),
        ("swe", "sv"),
        ("tam", "ta"),
        ("tel", "te"),
        ("tgl", "tl"),
        ("tha", "th"),
        ("tuk", "tk"),
        ("tur", "tr"),
        ("ukr", "uk"),
        ("urd", "ur"),
        ("uzb", "uz"),
        ("vie", "vi"),
        ("yid", "yi"),
        ("zul", "zu"),
    ];
    let long = language.code();
    CODES
        .binary_search_by_key(&long, |(l, _)| l)
        .ok()
        .and_then(|i| CODES.get(i))
        .map_or(long, |(_, short)| short)
}

/// Whether two codes name the same language: `zh-cn` is `zh`.
pub(super) fn same(a: &str, b: &str) -> bool {
    let main = |code: &str| code.split(['-', '_']).next().unwrap_or_default().to_lowercase();
    main(a) == main(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_a_short_code() {
        for &language in Lang::all() {
            assert_eq!(code(language).len(), 2, "{language:?}");
        }
        assert!(same("zh-cn", "zh") && same("ZH", "zh") && !same("en", "es"));
    }
}
