//! A minimal SVG writer: a few shapes, with all text escaped.
use std::fmt::Write;

/// An SVG image under construction. Lengths are in pixels.
#[derive(Debug)]
pub(super) struct Svg {
    body: String,
    width: f64,
    height: f64,
}

/// Where a text is anchored.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

impl Svg {
    pub(super) fn new(width: f64, height: f64) -> Self {
        Self { body: String::new(), width, height }
    }

    /// Adds a definition, such as a pattern, as it is.
    pub(super) fn raw(&mut self, markup: &str) {
        self.body.push_str(markup);
        self.body.push('\n');
    }

    /// A rectangle; `title` is what a pointer over it shows.
    pub(super) fn rect(&mut self, [x, y, w, h]: [f64; 4], class: &str, fill: &str, title: Option<&str>) {
        let (x, y, w, h) = (number(x), number(y), number(w), number(h));
        let open = format!(r#"<rect x="{x}" y="{y}" width="{w}" height="{h}" class="{class}" fill="{fill}""#);
        let end = match title {
            Some(t) => format!("><title>{}</title></rect>\n", escape(t)),
            None => "/>\n".to_owned(),
        };
        self.put(&[&open, &end]);
    }

    pub(super) fn line(&mut self, [x1, y1, x2, y2]: [f64; 4], class: &str) {
        let (x1, y1, x2, y2) = (number(x1), number(y1), number(x2), number(y2));
        self.put(&[&format!(
            r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{class}"/>
"#
        )]);
    }

    pub(super) fn text(&mut self, [x, y]: [f64; 2], class: &str, anchor: Anchor, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        self.put(&[
            &format!(r#"<text x="{}" y="{}" class="{class}" text-anchor="{anchor}">"#, number(x), number(y)),
            &escape(text),
            "</text>\n",
        ]);
    }

    fn put(&mut self, parts: &[&str]) {
        parts.iter().for_each(|p| self.body.push_str(p));
    }

    /// The whole image, with a style sheet and a title for readers that do not see it.
    pub(super) fn finish(self, style: &str, title: &str) -> String {
        let (w, h) = (number(self.width), number(self.height));
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img">
<title>{}</title>
<style>{style}</style>
{}</svg>
"#,
            escape(title),
            self.body
        );
        out
    }
}

/// At most two decimals, without trailing zeros.
fn number(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text for element content and attributes; characters that XML cannot hold become U+FFFD.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\u{0}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(escape("a<b> & \"c\" 'd'\n\u{1}"), "a&lt;b&gt; &amp; &quot;c&quot; &#39;d&#39; \u{fffd}");
        let mut svg = Svg::new(10.0, 10.5);
        svg.text([1.0, 2.255], "t", Anchor::Start, "</text><script>");
        let out = svg.finish("", "<t>");
        assert!(!out.contains("<script>") && out.contains("<title>&lt;t&gt;</title>"), "{out}");
        assert!(out.contains(r#"viewBox="0 0 10 10.5""#), "{out}");
    }
}
