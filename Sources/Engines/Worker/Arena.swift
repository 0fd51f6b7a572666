import Foundation

/// Memory that this process and a worker both see: numbers lie there, and messages say where. It has no name and goes with
/// the last of both.
final class Arena {
    let descriptor: Int32
    let bytes: Int
    let base: UnsafeMutableRawPointer

    /// Nil where the system gives no such memory.
    init?(bytes: Int) {
        let size = max(4096, bytes)
        guard let descriptor = Arena.anonymous(bytes: size) else { return nil }
        guard let base = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0), base != MAP_FAILED else {
            close(descriptor)
            return nil
        }
        self.descriptor = descriptor
        self.bytes = size
        self.base = base
    }
    deinit {
        munmap(base, bytes)
        close(descriptor)
    }

    func floats(at offset: Int, count: Int) -> UnsafeMutableBufferPointer<Float> {
        precondition(offset >= 0 && offset % 4 == 0 && offset + 4 * count <= bytes, "\(count) numbers at \(offset)")
        return UnsafeMutableBufferPointer(
            start: (base + offset).assumingMemoryBound(to: Float.self), count: count)
    }
    func integers(at offset: Int, count: Int) -> UnsafeMutableBufferPointer<Int32> {
        precondition(offset >= 0 && offset % 4 == 0 && offset + 4 * count <= bytes, "\(count) numbers at \(offset)")
        return UnsafeMutableBufferPointer(
            start: (base + offset).assumingMemoryBound(to: Int32.self), count: count)
    }

    /// Linux: a memfd, which can neither shrink nor grow afterwards, so that nobody is surprised by a missing page. Elsewhere
    /// shared memory whose name is gone at once.
    private static func anonymous(bytes: Int) -> Int32? {
        typealias Create = @convention(c) (UnsafePointer<CChar>, UInt32) -> Int32
        if let symbol = dlsym(nil, "memfd_create") {
            let create = unsafeBitCast(symbol, to: Create.self)
            let (closeOnExec, allowSealing): (UInt32, UInt32) = (1, 2)
            let descriptor = create("atoll arena", closeOnExec | allowSealing)
            if descriptor >= 0 {
                guard ftruncate(descriptor, off_t(bytes)) == 0 else {
                    close(descriptor)
                    return nil
                }
                let (addSeals, shrinkAndGrow): (Int32, Int32) = (1033, 2 | 4)
                _ = fcntl(descriptor, addSeals, shrinkAndGrow)
                return descriptor
            }
        }
        let name = "/atoll-\(getpid())-\(UInt32.random(in: 0...UInt32.max))"
        let descriptor = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0o600)
        guard descriptor >= 0 else { return nil }
        shm_unlink(name)
        guard ftruncate(descriptor, off_t(bytes)) == 0 else {
            close(descriptor)
            return nil
        }
        return descriptor
    }
}
