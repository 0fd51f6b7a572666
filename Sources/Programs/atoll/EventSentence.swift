import Primitives
import Telemetry

extension Event {
    /// What a person wants to hear of it; nil for what only machines read. What others wrote into it does nothing at a terminal but
    /// to be seen.
    var sentence: String? {
        let sentence =
            switch what.section {
            case .gathering: gatheringSentence
            case .rounds: roundSentence
            case .recovery, .states: recoverySentence
            case .peer: ownerSentence
            case .member: memberSentence
            default: otherSentence ?? poolSentence
            }
        return sentence.map { escaped(TerminalText.punctuated(Self.spoken($0))) }
    }
    /// Units as people say them: “0..<7” as “0 to 6”, “4..<5” as “4”.
    static func spoken(_ text: String) -> String {
        text.replacing(#/([0-9]+)\.\.<([0-9]+)/#) { match in
            guard let first = Int(match.1), let end = Int(match.2), end > first else { return String(match.0) }
            return end == first + 1 ? "\(first)" : "\(first) to \(end - 1)"
        }
    }
    /// Pipelines as screens count them, from 1: “0-3,5” as “1 to 4, 6”.
    private static func spoken(ranks: String) -> String {
        ranks.replacing(#/[0-9]+/#) { match in "\((Int(match.0) ?? 0) + 1)" }
            .replacing("-", with: " to ").replacing(",", with: ", ")
    }

    /// Of a peer's work and its owner's limits.
    private var ownerSentence: String? {
        switch what {
        case .speedMeasured(let flops): "this machine computes \(roughly(flops / 1e9)) GFLOP/s"
        case .jobAccepted(let job, let name): "works for job \(job) “\(name)”, which \(peer) coordinates"
        case .offerDeclined(let why): "declined an offer of \(peer): \(why)"
        case .jobReleased(let job, let why): "job \(job) is over here: \(why)"
        case .ownerPaused: "it has left its job, and takes no other"
        case .ownerResumed: "it takes offers again"
        case .ownerLeaves(let round): "it leaves its job when round \(round) is over"
        case .workHeld(_, let why): "it computes nothing for the moment, and keeps its job: \(why)"
        case .workDraining(_, let why): "it leaves its job when the round is over: \(why)"
        case .workHandedOver(_, let why): "others take its place: \(why)"
        case .workTakenUp(let seconds): "it works again, after \(fixed(seconds, 0)) s"
        case .limitUnseen(let limit, let why, let instead):
            "it cannot see \(LimitText.subject(limit)) (\(why)): \(instead)"
        case .limitChanged(let limit, let from, let to): "\(limit) is \(to) now, and was \(from)"
        case .usageUnread(let why): "what was sent this month is not known: \(why)"
        case .processorTaken(let percent):
            "other programs take the processor\(peer.isEmpty ? "" : " of \(peer)"): \(fixed(percent, percent < 10 ? 1 : 0)) % of what it asks for is left"
        case .processorBack: "other programs leave \(peer.isEmpty ? "this machine" : peer) the processor again"
        default: nil
        }
    }

    /// “pipeline 0 stage 1 units 2..<4”, as screens say it: stages and pipelines count from one there.
    private static func words(role: String) -> String {
        let words = role.split(separator: " ")
        guard words.count == 6, words[0] == "pipeline", words[2] == "stage", let rank = Int(words[1]),
            let stage = Int(words[3])
        else {
            return role
        }
        return "stage \(stage + 1) of pipeline \(rank + 1), with \(Self.words(units: String(words[5])))"
    }
    /// “2..<4” and “[2, 3]” as “units 2 to 3”, “3..<4” as “unit 3”; anything else as it is.
    static func words(units: String) -> String {
        let ends = units.split(separator: "..<").compactMap { Int($0) }
        if ends.count == 2, ends[0] < ends[1] { return words(units: ends[0]..<ends[1]) }
        // “[0, 1, 2]”.
        let list = units.dropFirst().dropLast().split(separator: ", ").compactMap { Int($0) }
        guard let first = list.first, units == "\(list)" else { return "units \(units)" }
        return list == Array(first..<first + list.count)
            ? words(units: first..<first + list.count) : "units " + list.map(String.init).joined(separator: ", ")
    }
    static func words(units: Range<Int>) -> String {
        units.count == 1 ? "unit \(units.lowerBound)" : "units \(units.lowerBound) to \(units.upperBound - 1)"
    }
    /// Of a peer in a job.
    private var memberSentence: String? {
        switch what {
        case .textComplete(let bytes): "the job's text is here (\(ByteCount(bytes)))"
        case .planReceived(let epoch, let role): "plan \(epoch): this peer is \(Self.words(role: role))"
        case .stateReady(let round, let units): "holds \(Self.words(units: units)) as of round \(round)"
        case .workPaused(let why): "it computes nothing meanwhile: \(why)"
        case .rejoined: "it is a member of its job again, with what it kept"
        case .peerLeft(let why): "\(peer) left: \(why)"
        case .placementRefused(let why): "it cannot take the place that it was given: \(why)"
        case .stateRequested(let units, let round): "asks \(peer) for \(Self.words(units: units)) of round \(round)"
        case .stateUnavailable(let why): "\(peer) cannot give what was asked for: \(why)"
        case .roundRewound(let round): "goes back to the beginning of round \(round)"
        case .roomShort(let what, let needed, let free, let place):
            "\(what) need \(ByteCount(needed)) in \(place), where \(ByteCount(free)) are free: the job goes on without"
        case .workRefused(let why, _): "the engine refuses its work: \(why)"
        case .stateWrong(let unit):
            "\(peer) offered weights of unit \(unit) that are not the agreed ones; another is asked"
        case .momentsInexact(let units, let round):
            "several have moments of the optimizer for \(Self.words(units: units)) as of round \(round): training goes on with one's, not bit for bit"
        case .roundStartFailed(let round, let why):
            "the start of round \(round) could not be written (\(why)): an older one stays, the job goes on"
        case .copyFailed(let round, let units, let why):
            "the copy of \(Self.words(units: units)) as of round \(round) could not be written (\(why)): an older one stays, the job goes on"
        case .roundStartRefused(let what, let why): "\(what) is of no use (\(why)): it is left alone"
        case .contributionUnusable(let rank, let why):
            "what pipeline \(rank + 1) contributed cannot be used here: \(why)"
        default: nil
        }
    }

    /// Of a pool that keeps members.
    private var poolSentence: String? {
        switch what {
        case .memberJoined(let invite, let role): "\(peer) has joined the pool as \(role), by invite \(invite)"
        case .memberRemoved: "\(peer) was removed from the pool by whoever keeps it"
        case .membershipRenewed(let days):
            "this machine's membership of the pool was renewed for \(fixed(days, 0)) days"
        case .inviteRevoked(let invite, let membersToo):
            "invite \(invite) was revoked" + (membersToo ? ", and all who had joined by it are removed" : "")
        case .poolKeyChanged(let serial): "the pool has another key (number \(serial)); this machine has it"
        default: nil
        }
    }

    private var gatheringSentence: String? {
        switch what {
        case .jobResumed(let job, let round, let checkpoint):
            "going on with job \(job), which is at round \(round); "
                + (checkpoint.map { "the checkpoint of round \($0) is here" } ?? "there is no checkpoint")
        case .waitingForPeers(let have, let want): "\(have) of \(want) peers are here; waiting for more"
        case .peerJoined: "+ \(peer) joined"
        case .peerDeclined(let why): "- \(peer) declined: \(why)"
        case .peerUnfit(let why): "- \(peer) cannot take part: \(why)"
        case .sharingText(let peers, let bytes):
            "sharing the text (\(ByteCount(bytes))) among \(counted(peers, "peer"))"
        case .measuringLinks(let peers, _): "measuring links and speeds of \(counted(peers, "peer"))"
        case .planned(_, let pipelines, let stages, let innerSteps, let codec, let activations, _, let step, let total):
            "plan: \(counted(pipelines, "pipeline")) of \(stages == 1 ? "" : "up to ")\(counted(stages, "stage")), exchange every \(innerSteps == 1 ? "step" : "\(innerSteps) steps") as \(codec), activations "
                + activations
                // Who only reads the job's log learns of no prediction.
                + (step > 0
                    ? "; predicted \(fixed(step, 2)) s a step, \(total < 600 ? "\(fixed(total, 0)) s" : ProgressView.span(total)) in all"
                    : "")
        case .exchangeChosen(let units, let way, let seconds, let allGatherSeconds):
            "exchange of \(Self.words(units: units)): \(way), \(fixed(seconds, 1)) s"
                + (way == "all-gather" ? "" : " against \(fixed(allGatherSeconds, 1)) s all-gather")
        case .pairRelayed(let to, let by, let megabits, let forward, let port, let saved):
            "  \(peer)–\(to): relayed by \(by), \(fixed(megabits, megabits < 10 ? 1 : 0)) Mbit/s"
                + (forward.map { end in
                    "; forward TCP and UDP\(port.map { " \($0)" } ?? "") to \(end) to save \(fixed(saved ?? 0, (saved ?? 0) < 0.1 ? 3 : 2)) s a step"
                } ?? "")
        case .planRefused(let why): "  no other plan: \(why)"
        default: nil
        }
    }

    private var roundSentence: String? {
        switch what {
        case .waitingFor(let peers, _, let why): "  waiting for \(peers): \(why)"
        case .speedChanged(_, let planned, let measured):
            "  \(peer) computes at \(roughly(measured)) GFLOP/s, was planned at \(roughly(planned))"
        case .exchangeRegrouped(let round, let ranks, let way, let why):
            "  exchange of round \(round): \(way) among \(ranks.contains(",") || ranks.contains("-") ? "pipelines" : "pipeline") \(Self.spoken(ranks: ranks)): \(why)"
        case .contributionRefused(let by, _, let why): "  \(by) cannot use what \(peer) contributed: \(why)"
        case .ownerRefuted: "✗ \(peer) added up a chunk wrongly, as others found; it owns nothing any more"
        case .receiptRefused(let why): "  a receipt of \(peer) was refused: \(why)"
        case .receiptContradicts(let round, _, _):
            "  \(peer) signed two different receipts for round \(round); the first counts"
        case .weightsDiffer(let unit, _):
            "✗ the weights of unit \(unit) at \(peer) differ from the others'; it may join again"
        case .aggregatesDiffer(let unit, let round), .auditDiffers(let unit, _, let round, _):
            "  sums of unit \(unit) in round \(round) differ; everybody sends everything to everybody instead"
        case .weightsDisputed(let unit, let round, let peers):
            "  \(peers) disagree about unit \(unit) in round \(round), and nobody has a majority"
        default: nil
        }
    }

    private var recoverySentence: String? {
        switch what {
        case .peerLost(let why, true): "- \(peer) has left: \(why)"
        case .peerLost(let why, false): "✗ lost \(peer): \(why)"
        case .othersGoOn(let pipelines, _):
            pipelines == 1 ? "  the other pipeline goes on" : "  the other \(pipelines) pipelines go on"
        case .replaced(let spare, _): "  \(spare) takes the place of \(peer)"
        case .trainingResumed(let seconds): "✓ training goes on, \(fixed(seconds, 1)) s after the loss was noticed"
        case .pipelineRestarted(let rank, let round, let why):
            "  pipeline \(rank + 1) begins round \(round) anew: \(why)"
        case .replanned(let why, let round, _, let pipelines, let step):
            "  planned anew from round \(round), because \(why): \(counted(pipelines, "pipeline"))"
                + (step > 0 ? "; predicted \(fixed(step, 2)) s a step" : "")
        case .rolledBack(let round, let from, let why):
            "  back to round \(round)\(from.map { $0 > round ? " of \($0)" : "" } ?? ""): \(why)"
        case .diverged(_, _, _, _, let why): "✗ training diverged: \(why)"
        case .workImpossible(_, _, _, _, let why): "✗ \(peer) cannot do its work: \(why)"
        case .supplyChosen(_, _, _, let why): "  \(why)"
        case .interrupted(let why): "  the job stands still: \(why)"
        case .resumed(let seconds): "✓ the job goes on after \(fixed(seconds, 1)) s"
        case .checkpointSaved(let round): "  checkpoint saved at round \(round)"
        case .collectingWeights: "collecting the weights"
        case .stateRefused(let unit): "  weights of unit \(unit) from \(peer) are not the agreed ones; another is asked"
        default: nil
        }
    }

    /// What is too small to be told, and is told to whoever asks for what lies behind a sentence.
    var quietSentence: String? {
        switch what {
        case .connectionMade(let endpoint): return escaped("it is connected to \(peer), at \(endpoint)")
        case .roundSealed(let round, let steps, let tokens, let loss, _, _, let seconds, _, _):
            return
                "round \(round) is sealed, after step \(steps): loss \(fixed(loss, 3)), \(grouped(tokens)) tokens in all, \(fixed(seconds, 1)) s"
        case .roundCounted(let round, let tokens, let loss, let seconds, let counted, let wasted):
            let last = seconds.map { ", \(fixed($0, 1)) s" } ?? ""
            return
                "round \(round) is sealed: loss \(loss.map { fixed($0, 3) } ?? "not known")\(last), \(grouped(tokens)) tokens in all; of this machine's micro-batches \(grouped(counted)) count so far, \(grouped(wasted)) do not"
        default: return meaning
        }
    }
    /// By the reference of all kinds: what it means, and its fields.
    private var meaning: String? {
        guard let entry = EventReference.entries.first(where: { $0.name == what.name }) else { return nil }
        let about = peer.isEmpty ? "" : "\(peer): "
        let fields = fields.map { "\($0.name.split(separator: "_").joined(separator: " ")) \($0.value)" }
        return escaped(
            Self.spoken("\(about)\(entry.meaning)" + (fields.isEmpty ? "" : " (\(fields.joined(separator: ", ")))")))
    }

    private var otherSentence: String? {
        switch what {
        case .listening(let endpoint): "listening on \(endpoint), looking for peers"
        case .bootstrapRetrying(_, let seconds): "no bootstrap node answers; asking again in \(fixed(seconds, 1)) s"
        case .evaluating: "evaluating on the whole validation part"
        case .evaluationProgress(let windows, let all):
            "  evaluated \(windows) of \(counted(all, "window")) (\(100 * windows / max(1, all)) %)"
        case .overlayJoined(let contacts):
            contacts == 0
                ? "it has joined the pool, of which it knows nobody else"
                : "it has joined the pool, and knows \(counted(contacts, "node"))"
        case .floodLimited(let what): "  more of \(what) came from \(peer) than is taken; the rest is dropped"
        case .forked(let index):
            "✗ \(peer) has another entry \(index) of the job's log than this machine, which keeps its own"
        case .overlayIsolated: "nobody of the pool has answered for a while"
        case .networkChanged(let why): "\(why): everybody is dialled anew"
        case .connectionInterrupted(let why): "the connection to \(peer) is interrupted: \(why)"
        case .connectionResumed: "the connection to \(peer) goes on"
        case .connectionLost(let why): "\(peer) is gone: \(why)"
        case .unreachable: ""
        case .connectionRefused(let why, _): "  \(peer): \(why)"
        case .reachability(let reached, let asked, false):
            "nobody reaches this machine from outside (\(reached) of \(asked) who tried): a router or a firewall lets nobody in. It works "
                + "with whoever it can reach itself. To be reached, let TCP and UDP on its port in (--listen): a rule of the firewall, or "
                + "a port of the router forwarded to it"
        case .connectionRelayed(let relay): "  \(peer) is reached through \(relay), which relays"
        case .connectionPunched(let endpoint): "  \(peer) is reached directly, through both routers, at \(endpoint)"
        case .berthGranted(let megabits, _):
            "this machine cannot be dialled; others reach it through \(peer), which carries \(fixed(megabits, 1)) Mbit/s. "
                + "Forward its port (TCP and UDP) at the router for more"
        case .berthLost: "  \(peer) no longer relays for this machine"
        case .portOpened(let endpoint): "the router lets others in at \(endpoint), as it was asked to"
        case .portClosed(let endpoint, let why): "nobody comes in at \(endpoint): \(why)"
        case .peerKilled: "✗ \(peer) killed, on purpose"
        case .checkpointFailed(let why): "  the checkpoint could not be written: \(why)"
        case .storageFailed(let what, let why): "✗ \(what) cannot be stored: \(why)"
        case .storageRecovered(let what): "✓ \(what) can be stored again"
        case .entryRefused(let why): "✗ an entry of our own was refused, please report it: \(why)"
        case .stateUnread(let why), .stateUnsaved(let why): "  \(why)"
        case .logDamaged(let path, let byte, let lost, let why):
            "\(path) is damaged from byte \(byte) on (\(why))\(lost > 0 ? ", and \(lost == 1 ? "one record" : "\(lost) records") of it cannot be read" : ""): what is whole is used"
        case .descriptorsScarce(let limit):
            "nearly all of the \(limit) files are open that this process may have open: it takes and opens no connections until some are closed. "
                + "`ulimit -n` allows more"
        case .descriptorsBack(let seconds): "it takes connections again, after \(fixed(seconds, 0)) s"
        case .controlClosed(let why): "`atoll status` does not reach it any more: \(why)"
        case .controlRestored: "its control socket had been removed, and is there again"
        case .electorsChosen(let electors, let why): "the record is carried by \(electors): \(why)"
        case .leadershipTaken(_, let round): "this machine coordinates the job from round \(round) on"
        case .recordFound(let entries, let certified, _):
            "\(peer) has \(entries) entries of the job's log; the longest that is certified has \(certified)"
        case .jobRefounded(_, let entries, let why):
            "the job is founded anew after \(entries) certified entries: \(why)"
        case .refoundingRefused(let entries, let certified):
            "the job was founded anew after \(entries) entries, and \(certified) are certified here: not followed"
        case .leaderChanged: "\(peer) coordinates the job from now on"
        case .recordCarried(let round, let tokens, let loss):
            "round \(round) is sealed: \(grouped(tokens)) tokens, loss \(fixed(loss, 3))"
        case .electorsContradict(_, let why): "✗ an elector lies: \(why)"
        case .launcherAwaited(let seconds):
            "all tokens are trained; waiting \(fixed(seconds, 0)) s for the launcher to collect the weights"
        default: nil
        }
    }
}
