import CUV
import Foundation

/// ^C for commands without an event loop.
enum Interrupt {
    nonisolated(unsafe) private static var flag: sig_atomic_t = 0
    static var asked: Bool { flag != 0 }
    static func watch() {
        for number in [SIGINT, SIGTERM] {
            signal(number) { _ in if Interrupt.flag != 0 { _exit(130) } else { Interrupt.flag = 1 } }
        }
    }
}

/// A child of `atoll demo` ends when the demo does, however that ends.
func dieWithParent() {
    guard let parent = ProcessInfo.processInfo.environment["ATOLL_PARENT"], let id = Int32(parent) else { return }
    atoll_die_with_parent()
    if getppid() != id { exit(1) }
}
