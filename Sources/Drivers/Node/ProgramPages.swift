import Foundation

/// Pages of the program's own files that are mapped because the start has run over them.
///
/// Linking, Foundation's start and the reading of flags touch most of the code, sixteen pages at a time (the kernel's fault-around), and little of it again: of an idle peer's
/// resident memory they are four fifths. Nothing is lost with them: they are clean, are in the page cache as long as the system likes, and come back by themselves.
package enum ProgramPages {
    /// Mappings of code from files, which nobody writes to, in the text of `/proc/self/maps` (proc_pid_maps(5)).
    package static func code(in maps: String) -> [Range<UInt>] {
        maps.split(separator: "\n").compactMap { line in
            let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
            guard fields.count == 6, fields[1] == "r-xp", fields[5].drop(while: { $0 == " " }).hasPrefix("/") else {
                return nil
            }
            let ends = fields[0].split(separator: "-").compactMap { UInt($0, radix: 16) }
            guard ends.count == 2, ends[0] < ends[1] else { return nil }
            return ends[0]..<ends[1]
        }
    }

    /// Lets go of them.
    ///
    /// - Returns: how many mappings; none where a debugger is attached, whose breakpoints are written into them.
    @discardableResult
    package static func release() -> Int {
        guard let status = text("/proc/self/status"), status.contains("TracerPid:\t0\n"),
            let maps = text("/proc/self/maps")
        else { return 0 }
        return code(in: maps).count { range in
            madvise(UnsafeMutableRawPointer(bitPattern: range.lowerBound), range.count, Int32(MADV_DONTNEED)) == 0
        }
    }
    /// Of a file that has no size beforehand.
    private static func text(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var all: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 16_384)
        while all.count < 1 << 20 {
            let count = read(descriptor, &buffer, buffer.count)
            guard count > 0 else { break }
            all += buffer[..<count]
        }
        return String(decoding: all, as: UTF8.self)
    }
}
