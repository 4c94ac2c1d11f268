//! `builder …`, `container …`, `image …`, `network …` and `system …`: the verbs by the longer names
//! docker has for them.
//!
//! Each line leads to a verb of the one table; nothing is done here that the verb does not do.

use clap::{ArgMatches, Command};

use super::{Context, Running, Verb, verbs};
use crate::exit::Code;

/// A word below a noun: the word itself, others that mean the same, and the verb.
type Word = (&'static str, &'static [&'static str], &'static str);

const BUILDER: &[Word] = &[("prune", &[], "builder-prune")];

const CONTAINER: &[Word] = &[
    ("attach", &[], "attach"),
    ("commit", &[], "commit"),
    ("cp", &[], "cp"),
    ("create", &[], "create"),
    ("diff", &[], "diff"),
    ("exec", &[], "exec"),
    ("export", &[], "export"),
    ("inspect", &[], "container-inspect"),
    ("kill", &[], "kill"),
    ("logs", &[], "logs"),
    ("ls", &["list", "ps"], "ps"),
    ("pause", &[], "pause"),
    ("port", &[], "port"),
    ("prune", &[], "container-prune"),
    ("rename", &[], "rename"),
    ("restart", &[], "restart"),
    ("rm", &["remove"], "rm"),
    ("run", &[], "run"),
    ("start", &[], "start"),
    ("stats", &[], "stats"),
    ("stop", &[], "stop"),
    ("top", &[], "top"),
    ("unpause", &[], "unpause"),
    ("wait", &[], "wait"),
];

const IMAGE: &[Word] = &[
    ("history", &[], "history"),
    ("import", &[], "import"),
    ("inspect", &[], "image-inspect"),
    ("load", &[], "load"),
    ("ls", &["list"], "images"),
    ("prune", &[], "image-prune"),
    ("pull", &[], "pull"),
    ("push", &[], "push"),
    ("rm", &["remove"], "rmi"),
    ("save", &[], "save"),
    ("tag", &[], "tag"),
    ("verify", &[], "image-verify"),
];

const NETWORK: &[Word] = &[
    ("connect", &[], "network-connect"),
    ("create", &[], "network-create"),
    ("disconnect", &[], "network-disconnect"),
    ("inspect", &[], "network-inspect"),
    ("ls", &["list"], "network-ls"),
    ("prune", &[], "network-prune"),
    ("rm", &["remove"], "network-rm"),
];

const SYSTEM: &[Word] = &[
    ("df", &[], "system-df"),
    ("events", &[], "events"),
    ("info", &[], "info"),
    ("prune", &[], "system-prune"),
];

/// The nouns of this file.
pub const VERBS: &[Verb] = &[
    Verb {
        name: "builder",
        command: || noun("builder", "Manage builds", BUILDER),
        run: |c, a| run(BUILDER, c, a),
    },
    Verb {
        name: "container",
        command: || noun("container", "Manage containers", CONTAINER),
        run: |c, a| run(CONTAINER, c, a),
    },
    Verb {
        name: "image",
        command: || noun("image", "Manage images", IMAGE),
        run: |c, a| run(IMAGE, c, a),
    },
    Verb {
        name: "network",
        command: || noun("network", "Manage networks", NETWORK),
        run: |c, a| run(NETWORK, c, a),
    },
];

/// The verb that two words of the command line mean, if the first is a noun.
pub fn verb_of(noun: &str, word: &str) -> Option<&'static str> {
    let words = match noun {
        "builder" => BUILDER,
        "container" => CONTAINER,
        "image" => IMAGE,
        "network" => NETWORK,
        "system" => SYSTEM,
        _ => return None,
    };
    let known = |(name, others, _): &&Word| *name == word || others.contains(&word);
    words.iter().find(known).map(|(.., verb)| *verb)
}

fn noun(name: &'static str, about: &'static str, words: &'static [Word]) -> Command {
    Command::new(name)
        .about(about)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands(below(words))
}

/// The commands that words lead to.
fn below(words: &'static [Word]) -> impl Iterator<Item = Command> {
    words.iter().filter_map(|(word, others, verb)| {
        let command = (find(verb)?.command)();
        Some(command.name(*word).visible_aliases(*others))
    })
}

/// Those below `system`.
pub fn system_commands() -> impl Iterator<Item = Command> {
    below(SYSTEM)
}

/// A verb, also one that only a noun leads to.
pub fn find(verb: &str) -> Option<&'static Verb> {
    let tables = [
        super::inspect::BELOW_NOUNS,
        super::networks::BELOW_NOUNS,
        super::prune::BELOW_NOUNS,
        super::disk::BELOW_NOUNS,
        super::verify::BELOW_NOUNS,
    ];
    let below = tables.into_iter().flatten();
    verbs().chain(below).find(|known| known.name == verb)
}

fn run<'a>(words: &[Word], context: &'a Context<'a>, arguments: &'a ArgMatches) -> Running<'a> {
    let named = arguments.subcommand().and_then(|(word, below)| {
        let verb = words.iter().find(|(name, ..)| *name == word)?.2;
        Some((find(verb)?, below))
    });
    match named {
        Some((verb, below)) => (verb.run)(context, below),
        None => Box::pin(async { Ok(Code::USAGE) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_leads_to_a_verb() {
        for (word, _, verb) in [BUILDER, CONTAINER, IMAGE, NETWORK, SYSTEM].concat() {
            assert!(find(verb).is_some(), "{word}");
        }
        assert_eq!(verb_of("container", "ps"), Some("ps"));
        assert_eq!(verb_of("image", "remove"), Some("rmi"));
        assert_eq!(verb_of("system", "prune"), Some("system-prune"));
        assert_eq!(verb_of("image", "run"), None);
        assert_eq!(verb_of("run", "run"), None);
    }
}
