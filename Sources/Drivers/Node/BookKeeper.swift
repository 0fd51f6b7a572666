import EventLoop

/// Writes what is known of a pool's members, one after the other, off the loop.
final class BookKeeper {
    private let path: String
    private let queue: WorkPool.Queue
    private var complained = false

    init(_ path: String, _ queue: WorkPool.Queue) { (self.path, self.queue) = (path, queue) }

    func keep(_ bytes: [UInt8], failed: @escaping (String) -> Void) {
        let path = path
        queue.submit({ () -> String? in
            do throws(NodeError) {
                try writeFile(path, bytes, mode: 0o600)
                return nil
            } catch {
                return error.description
            }
        }) { [weak self] problem in
            guard let self, let problem, !complained else { return }
            complained = true
            failed(problem)
        }
    }
}
