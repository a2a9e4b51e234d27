//! Faults on demand: `function[/kernel]=code[@n|@n+]`, separated by `;`.

/// One fault.
#[derive(Debug, Clone, PartialEq)]
struct Rule {
    /// Name of the function, `*` at its end for any that begins so.
    function: String,
    /// Only with this kernel.
    kernel: Option<String>,
    code: i64,
    from: u64,
    /// Also later than the `from`th time.
    lasting: bool,
    seen: u64,
}

impl Rule {
    fn parse(text: &str) -> Result<Rule, String> {
        let (rest, when) = text.split_once('@').unwrap_or((text, "1+"));
        let (what, code) = rest.split_once('=').unwrap_or((rest, "0"));
        let (function, kernel) = what.split_once('/').map_or((what, None), |(f, k)| (f, Some(k)));
        let lasting = when.ends_with('+');
        let number =
            |text: &str| text.trim().parse().map_err(|_| format!("`{text}` in `{text}` is no number"));
        Ok(Rule {
            function: function.trim().into(),
            kernel: kernel.map(|kernel| kernel.trim().into()),
            code: number(code)?,
            from: number(when.trim_end_matches('+'))?.max(1) as u64,
            lasting,
            seen: 0,
        })
    }

    fn is_of(&self, function: &str, kernel: Option<&str>) -> bool {
        let named = match self.function.strip_suffix('*') {
            Some(start) => function.starts_with(start),
            None => function == self.function,
        };
        named && self.kernel.as_deref() == kernel
    }
}

/// All faults of a run.
#[derive(Debug, Clone, Default)]
pub struct Faults(Vec<Rule>);

impl Faults {
    /// Reads `FAKE_DRIVER_FAULT`.
    ///
    /// # Errors
    /// The part that is not understood.
    pub fn parse(text: &str) -> Result<Faults, String> {
        text.split(';')
            .filter(|part| !part.trim().is_empty())
            .map(Rule::parse)
            .collect::<Result<_, _>>()
            .map(Faults)
    }

    /// A call of this function, with this kernel if it is about one: the code that it answers, if it is to fail now.
    /// Calls are counted by fault; one that is about a kernel is asked for with and without it.
    pub fn strike(&mut self, function: &str, kernel: Option<&str>) -> Option<i64> {
        let mut struck = None;
        for rule in self.0.iter_mut().filter(|rule| rule.is_of(function, kernel)) {
            rule.seen += 1;
            if rule.seen == rule.from || rule.lasting && rule.seen > rule.from {
                struck = struck.or(Some(rule.code));
            }
        }
        struck
    }
}

#[cfg(test)]
mod tests {
    use super::Faults;

    #[test]
    fn a_fault_strikes_at_its_call() {
        let mut faults =
            Faults::parse("cuMemAlloc_v2=2@3; cuLaunchKernelEx/embed=719@2+;nvml*=15@2+").unwrap();
        let strikes: Vec<_> = (0..4).map(|_| faults.strike("cuMemAlloc_v2", None)).collect();
        assert_eq!(strikes, [None, None, Some(2), None]);
        assert_eq!(faults.strike("cuLaunchKernelEx", None), None);
        let strikes: Vec<_> = (0..3).map(|_| faults.strike("cuLaunchKernelEx", Some("embed"))).collect();
        assert_eq!(strikes, [None, Some(719), Some(719)]);
        assert_eq!(faults.strike("cuLaunchKernelEx", Some("other")), None);
        assert_eq!(
            (faults.strike("nvmlInit_v2", None), faults.strike("nvmlShutdown", None)),
            (None, Some(15))
        );
        assert!(Faults::parse("cuInit=many").is_err());
    }

    #[test]
    fn without_a_call_it_always_strikes() {
        let mut faults = Faults::parse("cuInit=100").unwrap();
        assert_eq!((faults.strike("cuInit", None), faults.strike("cuInit", None)), (Some(100), Some(100)));
    }
}
