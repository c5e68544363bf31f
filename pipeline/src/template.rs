//! The text of an item from a template such as `{title}. {genres}. {overview}`.
//!
//! A template is a row of parts: a column and the words that follow it. A part whose value is null
//! or blank is left out with its words, so a film without genres reads `Title. Overview`. White
//! space is folded to single blanks. Words before the first column stay if any value is there.

use crate::BuildError;

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template {
    lead: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    column: String,
    words: String,
}

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A brace without its partner, or an empty `{}`.
    pub(crate) fn parse(text: &str) -> Result<Template, BuildError> {
        let wrong = |reason: String| BuildError::config("items.text_template", reason);
        let mut pieces = text.split('{');
        let lead = pieces.next().unwrap_or("").to_owned();
        let mut parts = Vec::new();
        for piece in pieces {
            let Some((column, words)) = piece.split_once('}') else {
                return Err(wrong(format!("`{{{piece}` has no closing brace")));
            };
            if column.trim().is_empty() {
                return Err(wrong("`{}` names no column".to_owned()));
            }
            parts.push(Part { column: column.trim().to_owned(), words: words.to_owned() });
        }
        if lead.contains('}') || parts.iter().any(|part| part.words.contains('}')) {
            return Err(wrong("a closing brace has no opening one".to_owned()));
        }
        Ok(Template { lead, parts })
    }

    /// The columns it names, in order.
    pub(crate) fn columns(&self) -> impl Iterator<Item = &str> {
        self.parts.iter().map(|part| part.column.as_str())
    }

    /// Fills it in; `values[i]` is the value of the i-th column.
    pub(crate) fn fill(&self, values: &[&str]) -> String {
        debug_assert_eq!(values.len(), self.parts.len());
        let mut text = String::new();
        for (part, value) in self.parts.iter().zip(values).filter(|(_, value)| !value.trim().is_empty()) {
            text.push_str(value);
            text.push_str(&part.words);
        }
        if !text.is_empty() {
            text.insert_str(0, &self.lead);
        }
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_parts_leave_with_their_words() {
        let check = |template: &str, values: &[&str], expect: &str| {
            assert_eq!(Template::parse(template).unwrap().fill(values), expect, "{template}");
        };
        let full = "{title}. {genres}. {overview}";
        check(full, &["Heat", "Crime", "A thief."], "Heat. Crime. A thief.");
        check(full, &["Heat", "", "A thief."], "Heat. A thief.");
        check(full, &["Heat", "  ", ""], "Heat.");
        check(full, &["", "", ""], "");
        check("Film: {title}", &["  Heat\n (1995) "], "Film: Heat (1995)");
        check("Film: {title}", &[""], "");
        check("{ title }", &["Heat"], "Heat");
    }

    #[test]
    fn broken_braces_are_named() {
        let check = |template: &str, expect: &str| {
            let error = Template::parse(template).unwrap_err().to_string();
            assert!(error.contains("items.text_template") && error.contains(expect), "{error}");
        };
        check("{title", "`{title` has no closing brace");
        check("title}", "no opening one");
        check("{a} } {b}", "no opening one");
        check("{}", "names no column");
    }
}
