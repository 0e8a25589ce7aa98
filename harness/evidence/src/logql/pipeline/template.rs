//! `line_format` and `label_format` templates: the part of Go's text/template that log queries use.
//!
//! Text, `{{ pipelines }}`, `if`/`else`/`else if`, `with`, `range`, variables, parentheses, trimming
//! with `{{-` and `-}}`, comments. Functions are in [`functions`]; an unknown one is an error when the
//! query is compiled.

mod functions;
mod parse;
mod time;

pub(crate) use time::days as days_since_epoch;

use super::LabelView;
use functions::Value;
use parse::{Argument, Command, Node, Pipe};

/// Most output of one template for one line: a `repeat` may not take the memory of the process.
const MOST_OUTPUT: usize = 1 << 20;

/// Most nodes one template visits for one line: ranges in ranges may not take the time of the process.
const MOST_WORK: usize = 100_000;

/// A parsed template.
pub(super) struct Template {
    nodes: Vec<Node>,
}

impl Template {
    /// # Errors
    /// What is wrong with the text.
    pub(super) fn new(text: &str) -> Result<Self, String> {
        parse::parse(text).map(|nodes| Self { nodes })
    }

    /// The text for one line.
    ///
    /// # Errors
    /// When a function cannot take its arguments.
    pub(super) fn render(&self, ts: i64, line: &str, view: &LabelView) -> Result<String, String> {
        let mut scope = Scope {
            ts,
            line,
            view,
            variables: Vec::new(),
            dot: None,
            work: 0,
            out: String::new(),
        };
        scope.nodes(&self.nodes)?;
        Ok(scope.out)
    }
}

struct Scope<'a, 'v> {
    ts: i64,
    line: &'a str,
    view: &'a LabelView<'v>,
    variables: Vec<(String, Value)>,
    /// `None` at the top, where the dot is the labels.
    dot: Option<Value>,
    work: usize,
    out: String,
}

impl Scope<'_, '_> {
    fn nodes(&mut self, nodes: &[Node]) -> Result<(), String> {
        let visible = self.variables.len();
        let done = nodes.iter().try_for_each(|node| self.node(node));
        self.variables.truncate(visible);
        done
    }

    fn node(&mut self, node: &Node) -> Result<(), String> {
        self.work += 1;
        if self.work > MOST_WORK {
            return Err(format!("more than {MOST_WORK} steps"));
        }
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Action(pipe) => {
                let value = self.pipe(pipe)?;
                if pipe.variable.is_none() {
                    self.out.push_str(&value.to_string());
                }
            }
            Node::If(pipe, then, otherwise) => {
                let branch = if self.pipe(pipe)?.truth() {
                    then
                } else {
                    otherwise
                };
                self.nodes(branch)?;
            }
            Node::With(pipe, then, otherwise) => {
                let value = self.pipe(pipe)?;
                if value.truth() {
                    self.with_dot(value, then)?;
                } else {
                    self.nodes(otherwise)?;
                }
            }
            Node::Range {
                variables,
                over,
                body,
                otherwise,
            } => self.range(variables, over, body, otherwise)?,
        }
        if self.out.len() > MOST_OUTPUT {
            return Err(format!("the result has more than {MOST_OUTPUT} bytes"));
        }
        Ok(())
    }

    fn with_dot(&mut self, value: Value, nodes: &[Node]) -> Result<(), String> {
        let before = self.dot.replace(value);
        let done = self.nodes(nodes);
        self.dot = before;
        done
    }

    fn range(
        &mut self,
        variables: &[String],
        over: &Pipe,
        body: &[Node],
        otherwise: &[Node],
    ) -> Result<(), String> {
        let items: Vec<(Value, Value)> = match self.pipe(over)? {
            Value::List(list) => list
                .into_iter()
                .enumerate()
                .map(|(at, item)| (Value::Int(at as i64), item))
                .collect(),
            Value::Map(map) => map.into_iter().map(|(k, v)| (Value::Text(k), v)).collect(),
            Value::Nil => Vec::new(),
            other => return Err(format!("range can't iterate over {other}")),
        };
        if items.is_empty() {
            return self.nodes(otherwise);
        }
        for (key, item) in items {
            let visible = self.variables.len();
            match variables {
                [value] => self.variables.push((value.clone(), item.clone())),
                [index, value] => {
                    self.variables.push((index.clone(), key));
                    self.variables.push((value.clone(), item.clone()));
                }
                _ => {}
            }
            let done = self.with_dot(item, body);
            self.variables.truncate(visible);
            done?;
        }
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value)?);
        }
        let value = value.unwrap_or(Value::Nil);
        if let Some(name) = &pipe.variable {
            // The latest of a name counts; assignment to an outer one changes it in place.
            match self.variables.iter_mut().rev().find(|(n, _)| n == name) {
                Some((_, slot)) if !pipe.declares => *slot = value.clone(),
                _ => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    /// A command; the value of the one before it is its last argument.
    fn command(&mut self, command: &Command, last: Option<Value>) -> Result<Value, String> {
        let Some(name) = &command.function else {
            return match command.arguments.first() {
                Some(argument) => self.argument(argument),
                None => Ok(last.unwrap_or(Value::Nil)),
            };
        };
        match name.as_str() {
            "__line__" => return Ok(Value::Text(self.line.to_owned())),
            "__timestamp__" => return Ok(Value::Time(self.ts)),
            _ => {}
        }
        let mut arguments = Vec::with_capacity(command.arguments.len() + 1);
        for argument in &command.arguments {
            arguments.push(self.argument(argument)?);
        }
        arguments.extend(last);
        functions::call(name, arguments)
    }

    fn argument(&mut self, argument: &Argument) -> Result<Value, String> {
        Ok(match argument {
            Argument::Value(value) => value.clone(),
            Argument::Pipe(pipe) => self.pipe(pipe)?,
            Argument::Field(path) => match (&self.dot, path.split_first()) {
                (None, Some((first, rest))) => {
                    let value = self.view.get(first).unwrap_or_default().to_owned();
                    functions::field(Value::Text(value), rest)
                }
                (None, None) => self.all_labels(),
                (Some(dot), _) => functions::field(dot.clone(), path),
            },
            Argument::Variable(name, path) => {
                let known = self.variables.iter().rev().find(|(n, _)| n == name);
                let value = match known {
                    Some((_, value)) => value.clone(),
                    // `$` alone is the labels.
                    None if name.is_empty() => self.all_labels(),
                    None => return Err(format!("undefined variable \"${name}\"")),
                };
                functions::field(value, path)
            }
            Argument::Call(command) => self.command(command, None)?,
        })
    }

    fn all_labels(&self) -> Value {
        let labels = self.view.labels();
        Value::Map(
            labels
                .iter()
                .map(|(n, v)| (n.to_owned(), Value::Text(v.to_owned())))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::logs::Labels;

    fn render(template: &str) -> Result<String, String> {
        let stream: Labels = [
            ("app", "Web"),
            ("took", "78.7ms"),
            ("size", "497.8KiB"),
            ("n", "7"),
            ("msg", "boom: x"),
        ]
        .into_iter()
        .collect();
        let none = Labels::default();
        let view = LabelView::new(&stream, &none);
        let line = r#"{"b":2,"a":[1,"x"]}"#;
        Template::new(template)?.render(1_795_354_673_389_878_292, line, &view)
    }

    #[test]
    fn templates_render() {
        for (template, text) in [
            ("a {{.app}} b", "a Web b"),
            ("{{.none}}|{{ default \"d\" .none }}", "|d"),
            ("x {{- .app -}} y", "xWeby"),
            ("{{/* a comment */}}k", "k"),
            ("{{ .app | lower | upper }} {{ ToLower .app }}", "WEB web"),
            (
                "{{ trunc 2 .app }} {{ trunc -2 .app }} {{ substr 1 2 .app }}",
                "We eb e",
            ),
            (
                "{{ duration .took }} {{ bytes .size }} {{ .n | int }}",
                "0.0787 509747 7",
            ),
            (
                "{{ float64 .n | printf \"%.1f|%5s|%q\" 1.0 }}",
                "1.0|    7|%!q(MISSING)",
            ),
            ("{{ regexReplaceAll \"(o+)\" .msg \"<$1>\" }}", "b<oo>m: x"),
            ("{{ if eq .app \"Web\" }}y{{ else }}n{{ end }}", "y"),
            (
                "{{ if .none }}a{{ else if .app }}b{{ else }}c{{ end }}",
                "b",
            ),
            (
                "{{ with .app }}{{ . }}{{ end }}{{ with .none }}x{{ else }}z{{ end }}",
                "Webz",
            ),
            (
                "{{ range $k, $v := fromJson __line__ }}{{ $k }};{{ end }}",
                "a;b;",
            ),
            (
                "{{ range $i, $v := (fromJson __line__).a }}{{ $i }}={{ $v }} {{ end }}",
                "0=1 1=x ",
            ),
            ("{{ $x := .app }}{{ $x }}{{ len $x }}", "Web3"),
            ("{{ add 1 2 3 }} {{ div 7 2 }} {{ mulf 1.5 2 }}", "6 3 3"),
            (
                "{{ __timestamp__ | unixEpoch }} {{ __timestamp__ | date \"2006-01-02T15:04:05.000Z07:00\" }}",
                "1795354673 2026-11-22T13:37:53.389Z",
            ),
            (
                "{{ toDate \"2006-01-02\" \"2024-05-06\" | date \"Jan 2\" }}",
                "May 6",
            ),
            ("{{ .app | b64enc }} {{ b64enc .app | b64dec }}", "V2Vi Web"),
            (
                "{{ if and (hasPrefix \"W\" .app) (not (contains \"z\" .app)) }}ok{{ end }}",
                "ok",
            ),
        ] {
            assert_eq!(render(template).as_deref(), Ok(text), "{template}");
        }
    }

    #[test]
    fn wrong_templates_are_refused_when_compiled() {
        for (template, error) in [
            ("{{ .x ", "unclosed action"),
            ("{{ nosuchfn .x }}", "function \"nosuchfn\" not defined"),
            ("{{ if .x }}y", "unexpected EOF"),
            ("{{ end }}", "unexpected {{end}}"),
            ("{{ .x | }}", "missing value for command"),
            ("{{ }}", "missing value for command"),
        ] {
            assert_eq!(
                Template::new(template).err().as_deref(),
                Some(error),
                "{template}"
            );
        }
    }

    #[test]
    fn a_function_that_cannot_work_fails_the_line() {
        assert!(render("{{ repeat 99999999 .app }}").is_err());
        assert!(render("{{ div 1 0 }}").is_err());
        assert!(render("{{ trunc .app }}").is_err());
        let list = "{{ range split \",\" (repeat 2000 \"a,\") }}";
        let nested = format!("{list}{list}x{{{{ end }}}}{{{{ end }}}}");
        assert!(render(&nested).is_err());
    }
}
