// SPDX-License-Identifier: GPL-2.0

//! Puts cases and targets together: which cases run on a target, under which names.

use std::sync::Arc;

use crate::case::Case;
use crate::check::Outcome;
use crate::check::Stop;
use crate::ktap::Job;
use crate::target::Target;

/// The name of the only case of a target that is not there.
const IS_THERE: &str = "is_there";

/// A case with its target.
#[derive(Clone)]
pub struct Planned {
    /// The name in the report.
    pub name: String,
    /// The target.
    pub target: Arc<Target>,
    /// The case. `None` for [`IS_THERE`].
    case: Option<&'static Case>,
    /// Why the device is known to fail the case.
    difference: Option<&'static str>,
}

impl Planned {
    /// Plans a case under its bare name.
    pub fn new(target: &Arc<Target>, case: &'static Case) -> Self {
        Planned {
            name: case.name.to_string(),
            target: target.clone(),
            case: Some(case),
            difference: None,
        }
    }

    fn is_there(target: &Arc<Target>) -> Self {
        Planned {
            name: format!("{}.{IS_THERE}", target.name),
            target: target.clone(),
            case: None,
            difference: None,
        }
    }

    /// Says whether this is a case, and not `is_there`.
    pub fn is_case(&self) -> bool {
        self.case.is_some()
    }

    /// Runs the case, or skips it with the first requirement that is missing. A requirement that every device
    /// of the kind meets is no reason to skip: the case fails without it. A case that the device is known to
    /// fail is skipped when it fails, and fails when it passes.
    pub fn run(&self) -> Outcome {
        let Some(case) = self.case else {
            return match self.target.absence() {
                None => Ok(()),
                Some(why) => Err(Stop::Skipped(why)),
            };
        };
        if case.requirements().next().is_some() {
            let facts = self.target.facts()?;
            for requirement in case.requirements() {
                if let Some(why) = requirement.missing(facts) {
                    return Err(if requirement.is_promised(facts.kind) {
                        Stop::failed(why)
                    } else {
                        Stop::Skipped(why.to_string())
                    });
                }
            }
        }
        match ((case.run)(&self.target), self.difference) {
            (Err(Stop::Failed(_)), Some(why)) => Err(Stop::Skipped(format!("as known: {why}"))),
            (Ok(()), Some(why)) => Err(Stop::failed(format_args!(
                "expected a failure because {why}, seen none"
            ))),
            (outcome, _) => outcome,
        }
    }
}

impl From<Planned> for Job {
    fn from(planned: Planned) -> Self {
        Job {
            name: planned.name.clone(),
            run: Arc::new(move || planned.run()),
        }
    }
}

/// Plans the `cases` that concern the target, under the names of target and case. If the target is not
/// there, the plan has the case `is_there` alone, unless `everything` is wanted, for a list. `difference`
/// tells why a device is known to fail a case.
pub fn plan<'a>(
    target: &'a Arc<Target>,
    cases: impl Iterator<Item = &'static Case> + 'a,
    difference: impl Fn(&str) -> Option<&'static str> + 'a,
    everything: bool,
) -> Box<dyn Iterator<Item = Planned> + 'a> {
    if !everything && target.absence().is_some() {
        return Box::new(core::iter::once(Planned::is_there(target)));
    }
    Box::new(
        cases
            .filter(|case| case.concerns(target))
            .map(move |case| Planned {
                name: format!("{}.{}", target.name, case.name),
                target: target.clone(),
                case: Some(case),
                difference: difference(case.name),
            }),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::plan;
    use super::Planned;
    use crate::case::cases;
    use crate::case::Case;
    use crate::check::Outcome;
    use crate::check::Stop;
    use crate::target::Target;

    fn passes(_: &Target) -> Outcome {
        Ok(())
    }

    fn fails(_: &Target) -> Outcome {
        Err(Stop::Failed("it fails".into()))
    }

    const CASES: &[Case] = cases![&[]; passes, fails, passes [Uart], fails [Nvme]];

    fn target() -> Arc<Target> {
        Arc::new(Target::of_type("ferry_uart-2").expect("a known type"))
    }

    #[test]
    fn cases_about_another_kind_of_device_are_not_planned() {
        let target = target();
        let names: Vec<String> = plan(&target, CASES.iter(), |_| None, true)
            .map(|planned| planned.name)
            .collect();
        let expected = ["passes", "fails", "passes"].map(|name| format!("ferry_uart-2.{name}"));
        assert_eq!(names, expected);
    }

    #[test]
    fn of_a_target_that_is_not_there_one_case_is_left_and_skipped() {
        let target = Target::clone(&target()).of_parent("/nowhere".as_ref());
        let target = Arc::new(target);
        let plan: Vec<Planned> = plan(&target, CASES.iter(), |_| None, false).collect();
        let [planned] = &plan[..] else {
            panic!("{} cases", plan.len());
        };
        assert_eq!(planned.name, "ferry_uart-2.is_there");
        assert!(matches!(planned.run(), Err(Stop::Skipped(why)) if why.contains("/nowhere")));
    }

    #[test]
    fn a_known_difference_turns_the_verdict() {
        let target = target();
        let verdict = |index, difference| {
            Planned {
                difference,
                ..Planned::new(&target, &CASES[index])
            }
            .run()
        };
        assert!(matches!(verdict(0, None), Ok(())));
        assert!(matches!(verdict(1, None), Err(Stop::Failed(_))));
        assert!(matches!(verdict(0, Some("of it")), Err(Stop::Failed(_))));
        assert!(
            matches!(verdict(1, Some("of it")), Err(Stop::Skipped(why)) if why == "as known: of it")
        );
    }
}
