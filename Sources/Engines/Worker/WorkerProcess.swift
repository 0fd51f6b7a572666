import Compute
import Foundation

/// A worker to talk to: its socket, and how to end it.
package struct WorkerLink {
    package let channel: WorkerChannel
    /// Ends the worker at once, whatever it is doing, and everything it has started.
    package let end: () -> Void
    package init(channel: WorkerChannel, end: @escaping () -> Void) {
        self.channel = channel
        self.end = end
    }
}

/// Starts a program that has its end of a socket pair as descriptor 3, in a process group of its own. Its standard output and
/// error are ours.
package struct WorkerProcess: Sendable {
    package var program: String
    package var arguments: [String]
    package var environment: [String: String]

    package init(program: String, arguments: [String], environment: [String: String] = [:]) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
    }

    package static let descriptor: Int32 = 3

    package func start() throws(Refusal) -> WorkerLink {
        var pair: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, streamKind, 0, &pair) == 0 else {
            throw Refusal("no socket for the worker: \(String(cString: strerror(errno)))")
        }
        let (ours, theirs) = (pair[0], pair[1])
        _ = fcntl(ours, F_SETFD, FD_CLOEXEC)
        let child = spawn(theirs)
        close(theirs)
        guard let child else {
            close(ours)
            throw Refusal("\(program) cannot be started: \(String(cString: strerror(errno)))")
        }
        return WorkerLink(channel: WorkerChannel(socket: ours)) {
            kill(-child, SIGKILL)
            kill(child, SIGKILL)
            var status: Int32 = 0
            while waitpid(child, &status, 0) < 0, errno == EINTR {}
        }
    }

    private var streamKind: Int32 {
        #if os(Linux)
            Int32(SOCK_STREAM.rawValue)
        #else
            SOCK_STREAM
        #endif
    }

    /// Sets `errno` where it answers nil.
    private func spawn(_ socket: Int32) -> pid_t? {
        #if os(Linux)
            var actions = posix_spawn_file_actions_t()
            var attributes = posix_spawnattr_t()
        #else
            var actions: posix_spawn_file_actions_t?
            var attributes: posix_spawnattr_t?
        #endif
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        // A descriptor duplicated onto itself would keep its close-on-exec flag.
        let high = fcntl(socket, F_DUPFD_CLOEXEC, 64)
        defer { close(high) }
        posix_spawn_file_actions_adddup2(&actions, high, Self.descriptor)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        posix_spawnattr_setpgroup(&attributes, 0)
        var all = ProcessInfo.processInfo.environment
        all.merge(environment) { $1 }
        var argv = ([program] + arguments).map { strdup($0) } + [nil]
        var envp = all.map { strdup("\($0.key)=\($0.value)") } + [nil]
        defer { for pointer in argv + envp { free(pointer) } }
        var child: pid_t = 0
        let failed = posix_spawnp(&child, program, &actions, &attributes, &argv, &envp)
        errno = failed
        return failed == 0 ? child : nil
    }
}
