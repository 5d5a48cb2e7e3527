//! Rules → a classic BPF program, as seccomp(2) takes it. One program for all rules: each one more
//! costs every system call and every launch.
//!
//! The program compares the architecture, then searches the number in a balanced tree of ranges;
//! calls whose arguments matter end in a block of their own. Until such a block only number and
//! architecture are read, so that the kernel can tell at installation which calls are always
//! allowed, and later skips the program for those.
//!
//! A library builds filters with one answer each, which would stack four of them here; and classic
//! BPF only jumps forward, so building from the end makes every distance known when it is needed.
//! Hence the small assembler below.

use super::{Answer, Arch, CallRule, Condition, ENOSYS, RuleSet, Test, X32_BIT};

/// One instruction; the layout of the kernel's `struct sock_filter`.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SockFilter {
    /// What to do.
    pub code: u16,
    /// Instructions to skip when a comparison holds.
    pub jt: u8,
    /// Instructions to skip when it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Why rules cannot be compiled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The kernel takes at most 4096 instructions.
    #[error("the filter would have {0} instructions, the kernel takes 4096")]
    TooLong(usize),
    /// A rule breaks the promises of [`RuleSet`].
    #[error("the rule for `{0}` is out of order, above the ceiling or tests a seventh argument")]
    Rule(&'static str),
}

pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const JUMP: u16 = 0x05;
pub(super) const IF_EQUAL: u16 = 0x15;
pub(super) const IF_AT_LEAST: u16 = 0x35;
pub(super) const IF_ANY_BIT: u16 = 0x45;
pub(super) const RETURN: u16 = 0x06;

/// Offsets in the kernel's `struct seccomp_data`; arguments are 64 bits, low half first.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

/// The kernel's `BPF_MAXINSNS`.
const LONGEST: usize = 4096;

/// The programs to install, in order; each may be passed to seccomp(2) as it is.
///
/// # Errors
/// When the rules are not well formed or the program is too long for the kernel.
pub fn compile(rules: &RuleSet) -> Result<Vec<Vec<SockFilter>>, CompileError> {
    let mut previous = None;
    for call in &rules.calls {
        let in_order = previous.is_none_or(|before| before < call.number);
        let arguments_exist = call.cases.iter().flat_map(|case| &case.all).all(|c| c.arg < 6);
        if !in_order || !arguments_exist || call.number > rules.ceiling {
            return Err(CompileError::Rule(call.name));
        }
        previous = Some(call.number);
    }

    let mut program = Assembler::default();
    let tree = program.search(&ranges(rules));
    program.enter(tree);
    let number = program.push(LOAD, NUMBER);
    let native = Target::At(number);
    let arch = program.branch(IF_EQUAL, rules.arch.audit_arch(), native, Target::Answer(Answer::Kill));
    program.enter(arch);
    program.push(LOAD, ARCHITECTURE);
    program.code.reverse();
    if program.code.len() > LONGEST {
        return Err(CompileError::TooLong(program.code.len()));
    }
    Ok(vec![program.code])
}

/// What is done from a number on, up to the next range.
#[derive(Clone, Copy)]
struct Range<'a> {
    start: u32,
    then: Then<'a>,
}

#[derive(Clone, Copy)]
enum Then<'a> {
    Answer(Answer),
    Call(&'a CallRule),
}

/// The whole space of numbers, in order, neighbours with one answer joined.
fn ranges(rules: &RuleSet) -> Vec<Range<'_>> {
    let mut all: Vec<Range<'_>> = Vec::new();
    let mut next = 0;
    for call in &rules.calls {
        if call.number > next {
            all.push(Range { start: next, then: Then::Answer(rules.unlisted) });
        }
        let then = if call.cases.is_empty() { Then::Answer(call.otherwise) } else { Then::Call(call) };
        all.push(Range { start: call.number, then });
        next = call.number + 1;
    }
    if next <= rules.ceiling {
        all.push(Range { start: next, then: Then::Answer(rules.unlisted) });
    }
    let unknown = Then::Answer(Answer::Errno(ENOSYS));
    all.push(Range { start: rules.ceiling + 1, then: unknown });
    if rules.arch == Arch::X86_64 {
        all.push(Range { start: X32_BIT, then: Then::Answer(Answer::Kill) });
        // -1 is what a tracer writes to skip a call; it is no x32 call.
        all.push(Range { start: u32::MAX, then: unknown });
    }
    all.dedup_by(|later, earlier| match (later.then, earlier.then) {
        (Then::Answer(one), Then::Answer(other)) => one == other,
        _ => false,
    });
    all
}

/// Where a jump leads: to an answer, wherever a copy of it is near, or to an instruction.
#[derive(Clone, Copy)]
enum Target {
    Answer(Answer),
    At(usize),
}

/// Builds a program from its end: the code is held in reverse, and a position counts from the end.
#[derive(Default)]
struct Assembler {
    code: Vec<SockFilter>,
    /// The latest copy of each answer.
    answers: Vec<(Answer, usize)>,
}

/// How far a conditional jump is trusted to reach: 255, less what may come in between.
const REACH: usize = 250;

impl Assembler {
    fn push(&mut self, code: u16, k: u32) -> usize {
        self.push_jump(code, k, 0, 0)
    }

    fn push_jump(&mut self, code: u16, k: u32, jt: u8, jf: u8) -> usize {
        self.code.push(SockFilter { code, jt, jf, k });
        self.code.len() - 1
    }

    /// Instructions to skip from the next one pushed to `position`.
    fn distance(&self, position: usize) -> usize {
        self.code.len() - 1 - position
    }

    /// A position that leads to `target` and that the next jump reaches.
    fn near(&mut self, target: Target) -> usize {
        match target {
            Target::At(position) if self.distance(position) <= REACH => position,
            Target::At(position) => {
                let far = u32::try_from(self.distance(position)).unwrap_or(u32::MAX);
                self.push(JUMP, far)
            }
            Target::Answer(answer) => {
                let known = self.answers.iter().rev().find(|(of, _)| *of == answer).map(|(_, at)| *at);
                match known.filter(|at| self.distance(*at) <= REACH) {
                    Some(position) => position,
                    None => {
                        let position = self.push(RETURN, returned(answer));
                        self.answers.push((answer, position));
                        position
                    }
                }
            }
        }
    }

    /// Makes `target` what runs next after the instruction pushed next.
    fn enter(&mut self, target: Target) {
        let position = self.near(target);
        let skip = self.distance(position);
        if skip > 0 {
            self.push(JUMP, u32::try_from(skip).unwrap_or(u32::MAX));
        }
    }

    /// A comparison with `k`.
    fn branch(&mut self, code: u16, k: u32, holds: Target, fails: Target) -> Target {
        let holds = self.near(holds);
        let fails = self.near(fails);
        // Both are within REACH plus the few instructions that `near` added: below 256.
        let jt = u8::try_from(self.distance(holds)).unwrap_or(u8::MAX);
        let jf = u8::try_from(self.distance(fails)).unwrap_or(u8::MAX);
        Target::At(self.push_jump(code, k, jt, jf))
    }

    /// The tree: which of `ranges` holds the number.
    fn search(&mut self, ranges: &[Range<'_>]) -> Target {
        match ranges {
            [] => Target::Answer(Answer::Kill),
            [only] => match only.then {
                Then::Answer(answer) => Target::Answer(answer),
                Then::Call(call) => self.call(call),
            },
            _ => {
                let (low, high) = ranges.split_at(ranges.len() / 2);
                let pivot = high.first().map_or(0, |range| range.start);
                let above = self.search(high);
                let below = self.search(low);
                self.branch(IF_AT_LEAST, pivot, above, below)
            }
        }
    }

    /// The cases of one call, first to last.
    fn call(&mut self, call: &CallRule) -> Target {
        let mut next = Target::Answer(call.otherwise);
        for case in call.cases.iter().rev() {
            let mut then = Target::Answer(case.answer);
            for condition in case.all.iter().rev() {
                then = self.condition(*condition, then, next);
            }
            next = then;
        }
        next
    }

    fn condition(&mut self, condition: Condition, holds: Target, fails: Target) -> Target {
        let test = match condition.test {
            Test::OneOf(values) => self.equals(values, holds, fails),
            Test::NoneOf(values) => self.equals(values, fails, holds),
            Test::AnyBit(bits) => self.branch(IF_ANY_BIT, bits, holds, fails),
        };
        self.enter(test);
        if condition.mask != u32::MAX {
            self.push(AND, condition.mask);
        }
        Target::At(self.push(LOAD, ARGUMENTS + 8 * u32::from(condition.arg)))
    }

    fn equals(&mut self, values: &[u32], holds: Target, fails: Target) -> Target {
        let mut next = fails;
        for value in values.iter().rev() {
            next = self.branch(IF_EQUAL, *value, holds, next);
        }
        next
    }
}

/// The kernel's `SECCOMP_RET_*` word.
pub(super) const fn returned(answer: Answer) -> u32 {
    match answer {
        Answer::Allow => 0x7fff_0000,
        Answer::Errno(number) => 0x0005_0000 | number as u32,
        Answer::Kill => 0x8000_0000,
    }
}
