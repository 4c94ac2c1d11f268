//! From a tree and data to text.

use serde_json::{Map, Value};

use super::functions;
use super::parse::{Base, Node, Operand, Pipe};

/// Lists and tables that the engine may leave out: Go prints a missing one as an empty one.
const LISTS: &[&str] = &[
    "Binds",
    "CapAdd",
    "CapDrop",
    "Cmd",
    "Devices",
    "Dns",
    "DnsOptions",
    "DnsSearch",
    "Entrypoint",
    "Env",
    "ExecIDs",
    "ExtraHosts",
    "GroupAdd",
    "Links",
    "Mounts",
    "RepoDigests",
    "RepoTags",
    "SecurityOpt",
    "Shell",
    "Ulimits",
    "VolumesFrom",
];
/// The tables among them.
const TABLES: &[&str] = &[
    "Annotations",
    "ExposedPorts",
    "Labels",
    "Options",
    "PortBindings",
    "Ports",
    "Sysctls",
    "Tmpfs",
    "Volumes",
];

/// What ended a run of nodes early.
#[derive(PartialEq)]
enum Flow {
    On,
    Break,
    Continue,
}

struct Scope<'a> {
    root: &'a Value,
    /// The root as it was written, if it is to be shown so.
    whole: Option<&'a str>,
    variables: Vec<(String, Value)>,
    out: String,
}

/// The text that nodes make of `value`.
pub fn render(nodes: &[Node], value: &Value, whole: Option<&str>) -> Result<String, String> {
    let mut scope = Scope {
        root: value,
        whole,
        variables: Vec::new(),
        out: String::new(),
    };
    scope.run(nodes, value)?;
    Ok(scope.out)
}

impl Scope<'_> {
    /// Runs nodes; the variables they name end with them.
    fn run(&mut self, nodes: &[Node], dot: &Value) -> Result<Flow, String> {
        let outer = self.variables.len();
        let mut flow = Flow::On;
        for node in nodes {
            flow = self.node(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.variables.truncate(outer);
        Ok(flow)
    }

    fn node(&mut self, node: &Node, dot: &Value) -> Result<Flow, String> {
        match node {
            Node::Text(text) => self.out.push_str(text),
            Node::Print(pipe) => {
                let value = self.pipe(pipe, dot)?;
                if pipe.names.is_empty() {
                    self.out.push_str(&functions::shown(&value));
                }
            }
            Node::If(branches, otherwise) => {
                let outer = self.variables.len();
                let flow = self.first_that_holds(branches, otherwise, dot)?;
                // Those that a condition names are for its branches only.
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::With(subject, nodes, otherwise) => {
                let outer = self.variables.len();
                let subject = self.pipe(subject, dot)?;
                let flow = if functions::truth(&subject) {
                    self.run(nodes, &subject)?
                } else {
                    self.run(otherwise, dot)?
                };
                self.variables.truncate(outer);
                return Ok(flow);
            }
            Node::Range(subject, nodes, otherwise) => {
                return self.range(subject, nodes, otherwise, dot);
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::On)
    }

    fn first_that_holds(
        &mut self,
        branches: &[(Pipe, Vec<Node>)],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        for (condition, nodes) in branches {
            if functions::truth(&self.pipe(condition, dot)?) {
                return self.run(nodes, dot);
            }
        }
        self.run(otherwise, dot)
    }

    fn range(
        &mut self,
        subject: &Pipe,
        nodes: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<Flow, String> {
        let outer = self.variables.len();
        let list = self.pipe(subject, dot)?;
        let items: Vec<(Value, Value)> = match list {
            Value::Array(items) => (0_u64..).map(Value::from).zip(items).collect(),
            Value::Object(map) => sorted(map)
                .into_iter()
                .map(|(key, value)| (Value::String(key), value))
                .collect(),
            Value::Null => Vec::new(),
            other => {
                return Err(format!(
                    "range can't iterate over {}",
                    functions::shown(&other)
                ));
            }
        };
        if items.is_empty() {
            let flow = self.run(otherwise, dot)?;
            self.variables.truncate(outer);
            return Ok(flow);
        }
        for (key, item) in items {
            match subject.names.as_slice() {
                [] => {}
                [name] => self.assign(name, item.clone())?,
                [first, second, ..] => {
                    self.assign(first, key)?;
                    self.assign(second, item.clone())?;
                }
            }
            if self.run(nodes, &item)? == Flow::Break {
                break;
            }
        }
        self.variables.truncate(outer);
        Ok(Flow::On)
    }

    /// Gives the innermost variable of this name another value.
    fn assign(&mut self, name: &str, value: Value) -> Result<(), String> {
        let found = self.variables.iter_mut().rev().find(|(n, _)| n == name);
        let (_, known) = found.ok_or_else(|| format!("undefined variable \"${name}\""))?;
        *known = value;
        Ok(())
    }

    fn pipe(&mut self, pipe: &Pipe, dot: &Value) -> Result<Value, String> {
        let mut value = None;
        for command in &pipe.commands {
            value = Some(self.command(command, value, dot)?);
        }
        let value = value.unwrap_or_default();
        for name in &pipe.names {
            match pipe.assigns {
                true => self.assign(name, value.clone())?,
                false => self.variables.push((name.clone(), value.clone())),
            }
        }
        Ok(value)
    }

    fn command(
        &mut self,
        command: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let Some((first, rest)) = command.split_first() else {
            return Err("missing value for command".to_owned());
        };
        if let Operand::Function(name) = first
            && (name == "and" || name == "or")
        {
            return self.first_that_decides(name == "and", rest, piped, dot);
        }
        if let (Operand::Function(name), [Operand::Path(base, path)], None) = (first, rest, &piped)
            && name == "json"
            && path.is_empty()
            && self.is_root(base, dot)
            && let Some(whole) = self.whole
        {
            return Ok(Value::String(whole.to_owned()));
        }
        let mut arguments = Vec::new();
        for operand in rest {
            arguments.push(self.operand(operand, dot)?);
        }
        arguments.extend(piped);
        match first {
            Operand::Function(name) => functions::apply(name, &arguments),
            // `.Label "name"` of a row: a field that is asked for one of its entries.
            Operand::Path(..) if !arguments.is_empty() => {
                let table = self.operand(first, dot)?;
                let (Value::Object(table), [Value::String(key)]) = (&table, arguments.as_slice())
                else {
                    return Err("a field has no arguments".to_owned());
                };
                Ok(table
                    .get(key)
                    .cloned()
                    .unwrap_or_else(|| Value::String(String::new())))
            }
            other if arguments.is_empty() => self.operand(other, dot),
            _ => Err("a value has no arguments".to_owned()),
        }
    }

    fn is_root(&self, base: &Base, dot: &Value) -> bool {
        match base {
            Base::Dot => std::ptr::eq(dot, self.root),
            Base::Variable(name) => name.is_empty(),
            Base::Pipe(_) => false,
        }
    }

    /// `and` and `or`, which look no further than they must.
    fn first_that_decides(
        &mut self,
        all: bool,
        operands: &[Operand],
        piped: Option<Value>,
        dot: &Value,
    ) -> Result<Value, String> {
        let mut last = None;
        for operand in operands {
            let value = self.operand(operand, dot)?;
            if functions::truth(&value) != all {
                return Ok(value);
            }
            last = Some(value);
        }
        piped
            .or(last)
            .ok_or_else(|| "wrong number of args".to_owned())
    }

    fn operand(&mut self, operand: &Operand, dot: &Value) -> Result<Value, String> {
        let (base, path) = match operand {
            Operand::Literal(value) => return Ok(value.clone()),
            Operand::Function(name) => return functions::apply(name, &[]),
            Operand::Path(base, path) => (base, path),
        };
        match base {
            Base::Dot => walk(dot, path),
            Base::Variable(name) if name.is_empty() => walk(self.root, path),
            Base::Variable(name) => {
                let found = self.variables.iter().rev().find(|(known, _)| known == name);
                let (_, value) = found.ok_or_else(|| format!("undefined variable \"${name}\""))?;
                walk(value, path)
            }
            Base::Pipe(pipe) => {
                let value = self.pipe(pipe, dot)?;
                walk(&value, path)
            }
        }
    }
}

fn walk(start: &Value, path: &[String]) -> Result<Value, String> {
    let mut value = start;
    for part in path {
        value = match value {
            Value::Object(map) => map
                .get(part)
                .ok_or_else(|| format!("map has no entry for key \"{part}\""))?,
            Value::Null => return Ok(Value::Null),
            _ => return Err(format!("can't evaluate field {part}")),
        };
    }
    let last = path.last().map_or("", String::as_str);
    Ok(match value {
        Value::Null if LISTS.contains(&last) => Value::Array(Vec::new()),
        Value::Null if TABLES.contains(&last) => Value::Object(Map::new()),
        other => other.clone(),
    })
}

/// The entries of a table by their names, as Go walks through one.
fn sorted(map: Map<String, Value>) -> Vec<(String, Value)> {
    let mut entries: Vec<_> = map.into_iter().collect();
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries
}
