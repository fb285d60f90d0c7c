//! CSV files that must be refused, and some that must not. The label column is `y`.
use super::Case;

/// Tables with one feature and the labels 1 and 0.
pub(crate) fn controls() -> Vec<(&'static str, Vec<u8>)> {
    let utf8 = |text: &str| text.as_bytes().to_vec();
    vec![
        ("plain", utf8("x,y\n1,1\n2,0\n")),
        ("label first", utf8("y,x\n1,1\n0,2\n")),
        ("byte-order mark", utf8("\u{feff}x,y\n1,1\n2,0\n")),
        ("byte-order mark at the label", utf8("\u{feff}y,x\n1,1\n0,2\n")),
        ("CRLF", utf8("x,y\r\n1,1\r\n2,0\r\n")),
        ("CR", utf8("x,y\r1,1\r2,0\r")),
        ("blank lines", utf8("\nx,y\n\n1,1\n\n2,0\n\n")),
        ("no line break at the end", utf8("x,y\n1,1\n2,0")),
        ("quotes", utf8("\"x, in m\",\"y\"\n\"1\",1\n2,\"0\"\n")),
        ("blanks", utf8("x , y\n 1 , 1\n2 ,0 \n")),
        ("exponents", utf8("x,y\n-1.5e-3,1\n+.5,0\n")),
    ]
}

pub(crate) fn all() -> Vec<Case> {
    [structure(), headers(), cells(), labels()].concat()
}

fn structure() -> Vec<Case> {
    let list: Vec<(&str, Vec<u8>, &'static str)> = vec![
        ("empty", b"".to_vec(), "is empty"),
        ("line breaks", b"\n\n\r\n".to_vec(), "is empty"),
        ("mark alone", b"\xEF\xBB\xBF".to_vec(), "is empty"),
        ("header alone", b"x,y\n".to_vec(), "no rows"),
        ("header without line break", b"x,y".to_vec(), "no rows"),
        ("short row", b"x,z,y\n1,2,0\n1,2\n".to_vec(), "line 3: has 2 cells; expected 3"),
        ("long row", b"x,y\n1,0\n1,0,2\n".to_vec(), "line 3: has 3 cells; expected 2"),
        ("trailing comma", b"x,y\n1,0,\n".to_vec(), "line 2: has 3 cells"),
        ("short row behind blank lines", b"x,y\n\n\n1\n".to_vec(), "line 4: has 1 cells"),
        (
            "bad cell behind blank lines and a mark",
            b"\xEF\xBB\xBF\r\nx,y\r\n\r\na,1\r\n".to_vec(),
            "line 4: column `x`",
        ),
        ("short row after CRLF", b"x,y\r\n1,0\r\n1\r\n".to_vec(), "line 3: has 1 cells"),
        ("quoted line break", b"x,y\n\"1\n2\",0\n".to_vec(), "line 2: the quoted cell \"1\\n2\" runs over"),
        ("quoted line break in the header", b"\"x\nx\",y\n1,0\n".to_vec(), "line 1: the quoted cell"),
        ("open quote", b"x,y\n\"1,0\n2,1\n3,0\n".to_vec(), "line 2: the quoted cell"),
        ("open quote in the last row", b"x,y\n1,0\n\"2,1\n".to_vec(), "is a quote missing?"),
        ("open quote in the header", b"\"x,y\n1,0\n".to_vec(), "line 1: the quoted cell"),
        ("quote within", b"x,y\n1\"5,0\n".to_vec(), "column `x` is `1\"5`"),
        ("NUL", b"x,y\n1,0\n\x00,1\n".to_vec(), "line 3: has a NUL byte"),
        ("UTF-16", b"\xFF\xFEx\0,\0y\0\n\0".to_vec(), "NUL byte"),
        ("Latin 1", b"x,y\n1,0\n\xE9,1\n".to_vec(), "line 3: is not UTF-8"),
        ("Latin 1 in the header", b"gr\xF6\xDFe,y\n1,0\n".to_vec(), "line 1: is not UTF-8"),
        ("endless cell", [b"x,y\n".to_vec(), vec![b'1'; 17 << 20]].concat(), "line 2: is longer than 16 MiB"),
        ("endless quote", [b"x,y\n\"".to_vec(), vec![b'1'; 17 << 20]].concat(), "line 2: is longer"),
        ("gzip", b"\x1F\x8B\x08\0\0\0\0\0".to_vec(), "gunzip"),
        ("spreadsheet", b"PK\x03\x04\x14\0\x06\0".to_vec(), "zip archive"),
        ("web page", b"<!DOCTYPE html>\n<html>".to_vec(), "web page"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "git lfs pull"),
        ("zeros", vec![0; 64], "zeros"),
    ];
    list.into_iter().map(|(name, bytes, says)| Case::new(format!("csv: {name}"), bytes, says)).collect()
}

fn headers() -> Vec<Case> {
    let list: [(&str, &str, &'static str); 15] = [
        ("numbers", "1,2,0\n3,4,1\n", "line 1: has only numbers; expected a header"),
        ("name twice", "x,x,y\n1,2,0\n", "line 1: column `x` is there twice"),
        ("label twice", "x,y,y\n1,2,0\n", "column `y` is there twice"),
        ("name twice up to blanks", "x, x,y\n1,2,0\n", "column `x` is there twice"),
        ("no name", "x,,y\n1,2,0\n", "line 1: column 2 has no name"),
        ("index column of pandas", ",x,y\n0,2,0\n", "column 1 has no name"),
        ("no label", "x,z\n1,0\n", "unknown column `y`"),
        ("label in capitals", "x,Y\n1,0\n", "unknown column `y`"),
        ("one column", "y\n1\n", "line 1: has one column"),
        ("semicolons", "x;y\n1;0\n", "looks semicolon-separated"),
        ("semicolons and decimal commas", "x;y\n1,5;0\n", "looks semicolon-separated"),
        ("tabs", "x\ty\n1\t0\n", "looks tab-separated"),
        ("bars", "x|y\n1|0\n", "looks bar-separated"),
        ("title above", "My measurements\nx,y\n1,0\n", "line 1: has one column"),
        ("comment above", "# a comment\nx,y\n1,0\n", "line 1: has one column"),
    ];
    list.into_iter().map(|(name, text, says)| Case::new(format!("csv header: {name}"), text, says)).collect()
}

fn cells() -> Vec<Case> {
    let list: [(&str, &'static str); 22] = [
        ("", "line 3: column `x` is empty"),
        ("  ", "column `x` is empty"),
        ("\"\"", "column `x` is empty"),
        ("NaN", "is `NaN`; expected a finite number"),
        ("nan", "is `nan`; expected a finite number"),
        ("inf", "expected a finite number"),
        ("-Infinity", "expected a finite number"),
        ("1e400", "is `1e400`; expected a finite number"),
        ("-1e39", "expected a finite number"),
        ("-", "is `-`; expected a number"),
        ("NA", "is `NA`; expected a number"),
        ("?", "is `?`; expected a number"),
        ("abc", "is `abc`; expected a number"),
        ("true", "is `true`; expected a number"),
        ("0x10", "is `0x10`; expected a number"),
        ("1_000", "expected a number"),
        ("\"1,5\"", "with a decimal point and no other marks"),
        ("\"1,234.5\"", "with a decimal point and no other marks"),
        ("1 000", "expected a number"),
        ("5%", "expected a number"),
        ("=1+1", "is `=1+1`; expected a number"),
        ("2020-01-01", "expected a number"),
    ];
    let mut cases: Vec<Case> = list
        .into_iter()
        .map(|(cell, says)| Case::new(format!("csv cell {cell}"), format!("x,y\n0,1\n{cell},0\n"), says))
        .collect();
    let long = format!("x,y\n0,1\n{},0\n", "a".repeat(1 << 20));
    cases.push(Case::new("csv cell of 1 MiB", long, "…`; expected a number"));
    cases
}

fn labels() -> Vec<Case> {
    let list: [(&str, &'static str); 9] = [
        ("", "line 2: column `y` is ``; expected a class number"),
        ("-1", "column `y` is `-1`"),
        ("1.0", "column `y` is `1.0`"),
        ("0.5", "column `y` is `0.5`"),
        ("cat", "column `y` is `cat`"),
        ("NaN", "column `y` is `NaN`"),
        ("1e3", "column `y` is `1e3`"),
        ("1000000", "expected a class number from 0 to 999999"),
        ("99999999999999999999", "expected a class number"),
    ];
    list.into_iter()
        .map(|(label, says)| Case::new(format!("csv label {label}"), format!("x,y\n1,{label}\n"), says))
        .collect()
}
