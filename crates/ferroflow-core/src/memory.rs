//! How much memory this process can still get, so that work that needs more is refused before it begins instead of killed
//! in the middle.

use std::{fs, path::Path};

/// Work that needs more memory than there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it takes about {} of memory, and {} can be had", size(*needed), size(*there))]
pub struct Shortage {
    /// Memory that the work needs, bytes.
    pub needed: u64,
    /// Memory that this process can still get, bytes.
    pub there: u64,
}

/// So much is always there, or nothing would run: not worth a look.
const SMALL: u64 = 64 << 20;

/// Refuses work that needs more than four fifths of the available memory; the rest is for whatever `needed` does not count.
///
/// # Errors
/// If the work needs more. Where the system does not tell how much memory there is, everything is allowed.
pub fn check(needed: u64) -> Result<(), Shortage> {
    if needed <= SMALL {
        return Ok(());
    }
    match available() {
        Some(there) if needed > there / 5 * 4 => Err(Shortage { needed, there }),
        _ => Ok(()),
    }
}

/// Bytes that this process can still get: the least of what the machine has, what its control groups allow, and what is
/// left of its address space (`ulimit -v`). `None` where the system does not tell.
pub fn available() -> Option<u64> {
    let read = |path: &str| fs::read_to_string(path).ok();
    let machine = read("/proc/meminfo").and_then(|text| kilobytes(&text, "MemAvailable"));
    let groups = read("/proc/self/cgroup").and_then(|text| groups(Path::new("/sys/fs/cgroup"), &text));
    let addresses = read("/proc/self/limits").and_then(|limits| address_space(&limits, &read("/proc/self/status")?));
    [machine, groups, addresses].into_iter().flatten().min()
}

/// What the control groups of `/proc/self/cgroup` leave, by both versions of the interface: the least of a group and those
/// that it lies in.
fn groups(root: &Path, membership: &str) -> Option<u64> {
    let number = |path: &Path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let left = |folder: &Path, limit: &str, used: &str, cache: &str| {
        let limit = number(&folder.join(limit))?;
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        // Files read long ago are counted as used, and given up when memory is asked for.
        let cached = statistics.lines().find_map(|line| line.strip_prefix(cache)?.trim().parse().ok()).unwrap_or(0);
        let used = number(&folder.join(used)).unwrap_or(0).saturating_sub(cached);
        Some(limit.saturating_sub(used))
    };
    let groups = membership.lines().filter_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let path = Path::new(path.trim_start_matches('/'));
        let of = |folder: &Path| match controllers.is_empty() {
            true => left(&root.join(folder), "memory.max", "memory.current", "inactive_file "),
            false => left(
                &root.join("memory").join(folder),
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file ",
            ),
        };
        (controllers.is_empty() || controllers.split(',').any(|c| c == "memory"))
            .then(|| path.ancestors().filter_map(of).min())?
    });
    groups.min()
}

/// What `/proc/self/limits` leaves beside what `/proc/self/status` says is used.
fn address_space(limits: &str, status: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    let limit: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
    Some(limit.saturating_sub(kilobytes(status, "VmSize")?))
}

/// The value of a line `key:   1234 kB`, in bytes.
pub fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The number of bytes as text, in a unit that suits it.
fn size(bytes: u64) -> String {
    match bytes as f64 / (1u64 << 30) as f64 {
        gib if gib < 1.0 => format!("{:.0} MiB", 1024.0 * gib),
        gib => format!("{gib:.1} GiB"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_system_are_read() {
        let text = "MemTotal:       24000000 kB\nMemAvailable:   12 kB\n";
        assert_eq!((kilobytes(text, "MemAvailable"), kilobytes(text, "MemFree")), (Some(12 * 1024), None));
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max address space         2048000000           unlimited            bytes     \n";
        assert_eq!(address_space(limits, "VmPeak: 9 kB\nVmSize:\t 1000000 kB\n"), Some(1_024_000_000));
        assert_eq!(address_space("Max address space  unlimited  unlimited  bytes", "VmSize: 1 kB"), None);
    }

    #[test]
    fn the_narrowest_control_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert_eq!(groups(root.path(), "0::/user/job\n"), None);
        write("user/job/memory.max", "max\n");
        write("user/memory.max", "1000\n");
        write("user/memory.current", "700\n");
        write("user/memory.stat", "anon 500\ninactive_file 200\n");
        assert_eq!(groups(root.path(), "0::/user/job\n"), Some(500));
        write("user/job/memory.max", "400\n");
        assert_eq!(groups(root.path(), "0::/user/job\n"), Some(400));
        // The older interface, in a container that does not see its own path.
        write("memory/memory.limit_in_bytes", "300\n");
        write("memory/memory.usage_in_bytes", "100\n");
        assert_eq!(groups(root.path(), "5:cpu:/x\n4:memory:/docker/0123\n"), Some(200));
    }

    #[test]
    fn more_than_there_is_is_refused_with_both_numbers() {
        assert_eq!(check(1 << 20), Ok(()));
        if let Some(there) = available() {
            let refused = check(there.saturating_mul(2).max(1 << 30)).unwrap_err();
            assert!(refused.to_string().contains("can be had"), "{refused}");
        }
        let shortage = Shortage { needed: 17 << 30, there: 512 << 20 };
        assert_eq!(shortage.to_string(), "it takes about 17.0 GiB of memory, and 512 MiB can be had");
    }
}
