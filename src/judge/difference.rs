//! One difference between two things of one name: a reason, or a content that is needed to tell.

use std::path::Path;

use rustix::fs::FileType;

use crate::judge::reason::{Aspect, Reason, Subject};
use crate::observe::content::{Content, error_text};
use crate::observe::entry::{Entry, Rights};
use crate::observe::input::Input;
use crate::observe::observation::Observation;

/// One difference between two observations.
pub(crate) enum Difference<'a> {
    /// A reason why an answer is stale.
    Reason(Reason),
    /// Stat proves nothing about something. Its content decides whether that is a reason.
    ContentNeeded(Needed<'a>),
}

/// An entry of now whose content is needed.
pub(crate) struct Needed<'a> {
    pub(crate) subject: Subject,
    pub(crate) entry: &'a Entry,
    pub(crate) old: Content,
}

impl Needed<'_> {
    /// The reason that the content of now gives; `None` if it is the old one.
    pub(crate) fn settle(self, new: Content) -> Option<Reason> {
        content_reason(self.subject, self.old, new)
    }
}

/// The reasons that permissions and owner give, of two things of the same type.
pub(crate) fn rights_reasons(
    subject: impl Fn() -> Subject,
    then: Rights,
    now: Rights,
) -> impl Iterator<Item = Reason> {
    let permissions = |rights: Rights| format!("{:04o}", rights.mode & 0o7777);
    let owner = |rights: Rights| format!("{}:{}", rights.uid, rights.gid);
    let changed = |what, old, new| Reason::Changed {
        subject: subject(),
        what,
        old,
        new,
    };
    // A link's own permissions mean nothing (symlink(7)).
    let are_others = then.mode != now.mode && !now.file_type().is_symlink();
    let permissions =
        are_others.then(|| changed(Aspect::Permissions, permissions(then), permissions(now)));
    let is_other = (then.uid, then.gid) != (now.uid, now.gid);
    let owner = is_other.then(|| changed(Aspect::Owner, owner(then), owner(now)));
    permissions.into_iter().chain(owner)
}

pub(crate) fn content_reason(subject: Subject, old: Content, new: Content) -> Option<Reason> {
    let error = match (old, new) {
        (_, Content::Unreadable(errno)) => error_text(errno),
        (Content::Unreadable(errno), _) => {
            format!("{}, when the witness was taken", error_text(errno))
        }
        (old, new) if old == new => return None,
        (old, new) => {
            return Some(Reason::Changed {
                subject,
                what: Aspect::Content,
                old: content_text(old),
                new: content_text(new),
            });
        }
    };
    Some(Reason::Unknown { subject, error })
}

/// The place of an entry: its kind of input, and its module directory.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) input: Input,
    /// The module directory that it is in, if it is a module.
    pub(crate) top: Option<&'a Path>,
    /// The observations that tell who needs it, if it is a library.
    pub(crate) needers: Option<[&'a Observation; 2]>,
}

impl Place<'_> {
    pub(crate) fn of(input: Input) -> Place<'static> {
        Place {
            input,
            top: None,
            needers: None,
        }
    }

    pub(crate) fn subject(&self, name: &Path) -> Subject {
        let subject = match self.top {
            Some(top) => Subject::new(self.input, Some(top), &top.join(name)),
            None => Subject::new(self.input, None, name),
        };
        let mut needers = self.needers.into_iter().flatten();
        subject.of_needer(needers.find_map(|it| it.needer_of(self.input, name)))
    }

    pub(crate) fn removed<'a>(&self, name: &Path) -> Difference<'a> {
        Difference::Reason(Reason::Removed(self.subject(name)))
    }

    pub(crate) fn added<'a>(&self, name: &Path, content: Content) -> Difference<'a> {
        let subject = self.subject(name);
        Difference::Reason(match content {
            Content::Unreadable(errno) => Reason::Unknown {
                subject,
                error: error_text(errno),
            },
            _ => Reason::Added(subject),
        })
    }
}

pub(crate) fn kind(file_type: FileType) -> &'static str {
    match file_type {
        FileType::RegularFile => "file",
        FileType::Directory => "directory",
        FileType::Symlink => "link",
        FileType::Fifo => "FIFO",
        FileType::Socket => "socket",
        FileType::CharacterDevice | FileType::BlockDevice => "device",
        FileType::Unknown => "unknown",
    }
}

fn content_text(content: Content) -> String {
    match content {
        Content::Digest(digest) => format!("{:032x}", u128::from_be_bytes(digest)),
        Content::Unreadable(errno) => error_text(errno),
        Content::Nothing | Content::Unread => "-".to_owned(),
    }
}
