import Foundation
import Primitives

/// How far something is, on stderr: one line that is written over on a terminal, else a line now and then, once it takes longer than two
/// seconds. Used by one thread at a time.
final class ProgressLine {
    private let isTerminal = isatty(STDERR_FILENO) == 1
    private let start = Date()
    private var last = Date.distantPast
    private let pause: TimeInterval
    private var isShown = false

    /// - Parameter seconds: between two lines where there is no terminal.
    init(every seconds: Double = 10) { pause = isatty(STDERR_FILENO) == 1 ? min(seconds, 0.2) : seconds }

    func show(_ text: () -> String) {
        let now = Date()
        guard now.timeIntervalSince(last) >= pause else { return }
        let seconds = now.timeIntervalSince(start)
        guard isTerminal || seconds > 2 else { return }
        last = now
        isShown = true
        write(isTerminal ? "\r\(text())\u{1B}[K" : "\(text()), after \(fixed(seconds, 0)) s\n")
    }
    func end() { if isTerminal, isShown { write("\r\u{1B}[K") } }
    private func write(_ text: String) { Output.note(text) }
}
