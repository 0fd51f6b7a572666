import ArgumentParser
@preconcurrency import Glibc
import Telemetry

/// What is printed reaches its place or is said not to: a disk may be full. Whoever reads no more (a pipe's other end) wants no more.
enum Output {
    /// Bytes among what is printed, at once.
    static func write(_ bytes: some Collection<UInt8>) {
        let bytes = Array(bytes)
        fwrite(bytes, 1, bytes.count, stdout)
        fflush(stdout)
    }
    static func write(_ text: String) { write(text.utf8) }
    /// For people, beside what is printed. Where it cannot be written there is nobody to be told.
    static func note(_ text: String) {
        let bytes = Array(text.utf8)
        fwrite(bytes, 1, bytes.count, stderr)
    }

    /// Why something that was printed is lost; 0 where the system says no more, nil where nothing is.
    private static func loss() -> Int32? {
        errno = 0
        return fflush(stdout) != 0 || ferror(stdout) != 0 ? errno : nil
    }
    /// Of whoever prints again and again.
    ///
    /// - Throws: where nobody reads what is printed, or it cannot be written.
    static func require() throws(ExitCode) {
        guard let why = loss() else { return }
        tell(why)
        throw .failure
    }
    private static var isReaderGone: Bool {
        var place = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
        return poll(&place, 1, 0) > 0 && Int32(place.revents) & (POLLERR | POLLHUP) != 0
    }

    private static func tell(_ why: Int32) {
        clearerr(stdout)
        guard !isReaderGone else { return }
        complain(
            "what was printed could not all be written\(why == 0 ? "" : ": \(String(cString: strerror(why)))")", .error)
    }

    /// Ends the process: with a code of failure where something that was printed is lost.
    static func leave(_ code: Int32) -> Never {
        guard let why = loss() else { exit(code) }
        tell(why)
        exit(code == 0 ? 1 : code)
    }
}
