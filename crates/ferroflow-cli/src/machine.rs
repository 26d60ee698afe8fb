//! What the operating system says about this machine and process.

use std::{fs, num::NonZeroUsize, thread};

use ferroflow::core::memory::kilobytes;

/// Name of the processor.
pub fn processor() -> String {
    cpuinfo("model name").unwrap_or_else(|| std::env::consts::ARCH.into())
}

/// Peak memory of this process in bytes; `None` if the system does not tell.
pub fn peak_memory_bytes() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM")
}

/// Memory of the machine in bytes; `None` if the system does not tell.
pub fn total_memory_bytes() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/meminfo").ok()?, "MemTotal")
}

/// Whether the process was started to outlive its terminal (`nohup`).
#[cfg(unix)]
pub fn ignores_hangup() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Signal 1 is the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// How many processors each of `count` processes of this machine may keep busy: those that it was bound to, or else a share of all.
pub fn processors_of_each(count: usize) -> usize {
    let available = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).map(listed);
    let all = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let all = all.lines().filter(|line| line.starts_with("processor")).count();
    // Processes that were not bound may use the same ones.
    let bound = allowed.is_some_and(|allowed| allowed * count <= all);
    if bound { available } else { (available / count).max(1) }
}

/// Length of a list like `0-3,8`.
fn listed(list: &str) -> usize {
    let length = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<usize>().ok();
        number(last)?.checked_sub(number(first)?).map(|between| between + 1)
    };
    list.split(',').filter_map(length).sum()
}

fn cpuinfo(key: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_counted_and_shared() {
        assert_eq!(["\t0-3,8", "5", "0-1", ""].map(listed), [5, 1, 2, 0]);
        let available = thread::available_parallelism().unwrap().get();
        assert_eq!(processors_of_each(1), available);
        assert_eq!(processors_of_each(100 * available), 1);
    }
}
