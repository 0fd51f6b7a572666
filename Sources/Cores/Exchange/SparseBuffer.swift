import Kernels

/// Room for what a sparse message unpacks to: see ``kernels_codec_sparse_parse``.
final class SparseBuffer {
    private(set) var entries: UnsafeMutablePointer<UInt16> = .allocate(capacity: 0)
    private(set) var levels: UnsafeMutablePointer<Float> = .allocate(capacity: 0)
    private var entriesRoom = 0
    private var levelsRoom = 0

    /// Makes room for a message of `count` values; what was there is lost.
    func reserve(count: Int, k: Int) {
        let entriesNeeded = kernels_codec_sparse_entries(count, k), levelsNeeded = 4 * kernels_codec_sparse_tiles(count)
        if entriesNeeded > entriesRoom {
            entries.deallocate()
            entries = .allocate(capacity: entriesNeeded)
            entriesRoom = entriesNeeded
        }
        if levelsNeeded > levelsRoom {
            levels.deallocate()
            levels = .allocate(capacity: levelsNeeded)
            levelsRoom = levelsNeeded
        }
    }

    deinit {
        entries.deallocate()
        levels.deallocate()
    }
}

/// Memory that a receiver keeps between one mean and the next: about 1/64 of the tensor for each contributor at k = 64.
/// Asking for it anew each time costs as much as the arithmetic. For one thread at a time.
public final class MeanWorkspace {
    private var buffers: [SparseBuffer] = []
    public init() {}

    /// The buffer of one contributor.
    func buffer(_ position: Int) -> SparseBuffer {
        while buffers.count <= position { buffers.append(SparseBuffer()) }
        return buffers[position]
    }
}
