//! A YAML document as a tree with lines, bounded.
//!
//! Lock files use neither aliases nor tags. Aliases are refused, so that a small
//! file cannot stand for a large tree.

use saphyr_parser::{Event, Parser};

use super::{Collector, Fault};

/// Deepest nesting.
const MAX_DEPTH: usize = 32;

/// Most nodes of a document.
const MAX_NODES: usize = 2_000_000;

#[derive(Debug)]
pub(super) enum Node {
    Scalar(String),
    /// Lists hold nothing that names a package.
    List,
    Map(Vec<Member>),
}

#[derive(Debug)]
pub(super) struct Member {
    pub(super) key: String,
    /// Line of the key, from 1.
    pub(super) line: u32,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn get(&self, key: &str) -> Option<&Node> {
        self.members().iter().find(|m| m.key == key).map(|m| &m.value)
    }

    pub(super) fn members(&self) -> &[Member] {
        match self {
            Self::Map(members) => members,
            _ => &[],
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            _ => None,
        }
    }

    /// The text of a member.
    pub(super) fn text_of(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::text)
    }
}

/// A collection that is still open, with the key that waits for its value.
enum Open {
    List,
    Map(Vec<Member>, Option<(String, u32)>),
}

/// The first document of a text; an empty text is an empty map.
pub(super) fn parse(text: &str, out: &mut Collector<'_>) -> Result<Node, Fault> {
    let mut parser = Parser::new_from_str(text);
    let mut open: Vec<Open> = Vec::new();
    let mut nodes = 0usize;
    while let Some(event) = parser.next_event() {
        out.step()?;
        let (event, span) = event
            .map_err(|e| Fault::Malformed(format!("line {} is no YAML", e.marker().line())))?;
        let line = u32::try_from(span.start.line()).unwrap_or(u32::MAX);
        let node = match event {
            Event::Alias(_) => {
                return Err(Fault::Malformed(format!("line {line} has an alias")));
            }
            Event::MappingStart(..) => {
                open.push(Open::Map(Vec::new(), None));
                None
            }
            Event::SequenceStart(..) => {
                open.push(Open::List);
                None
            }
            Event::MappingEnd | Event::SequenceEnd => match open.pop() {
                Some(Open::Map(members, _)) => Some(Node::Map(members)),
                Some(Open::List) => Some(Node::List),
                None => None,
            },
            Event::Scalar(text, ..) => Some(Node::Scalar(text.into_owned())),
            Event::DocumentEnd | Event::StreamEnd => break,
            _ => None,
        };
        if open.len() > MAX_DEPTH {
            return Err(Fault::Malformed("it is nested too deeply".to_owned()));
        }
        let Some(node) = node else { continue };
        nodes += 1;
        if nodes > MAX_NODES {
            return Err(Fault::Malformed("it has too many values".to_owned()));
        }
        match open.last_mut() {
            None => return Ok(node),
            Some(Open::List) => {}
            Some(Open::Map(members, key)) => match key.take() {
                Some((key, line)) => members.push(Member { key, line, value: node }),
                // A key that is a collection names nothing here.
                None => {
                    *key = Some((node.text().unwrap_or_default().to_owned(), line));
                }
            },
        }
    }
    Ok(Node::Map(Vec::new()))
}
