"""What goes wrong while clients work. Each disturbance ends by itself, and what it
disturbed is there again afterwards."""

import signal
import threading
import time

# A worker's lease, in seconds: one that is frozen for longer has lost its jobs.
LEASE = 15


class Disturbances:
    """Two lanes side by side: processes of ours, and what they depend on."""

    def __init__(self, stack, ledger, chance, until):
        self.stack, self.ledger, self.until = stack, ledger, until
        self.chance = chance
        self.stopping = threading.Event()
        ours = [
            self.server_dies, self.worker_dies, self.worker_freezes, self.server_dies,
            self.worker_dies, self.server_freezes,
        ]
        others = [
            self.database_stops, self.store_hangs, self.messages_come_twice, self.store_dies,
            self.queue_is_emptied, self.queue_dies,
        ]
        self.kinds = {kind.__name__.replace("_", " ") for kind in ours + others}
        self.lanes = [
            threading.Thread(target=self.lane, args=(kinds, stream), daemon=True)
            for kinds, stream in ((ours, chance(1)), (others, chance(2)))
        ]
        self.broken = []

    def start(self):
        for lane in self.lanes:
            lane.start()

    def end(self):
        """Waits until the last ones are over."""
        self.stopping.set()
        for lane in self.lanes:
            lane.join(120)
            if lane.is_alive():
                self.broken.append("a disturbance does not end")

    def missing(self):
        """What never happened."""
        return sorted(kind for kind in self.kinds if not self.ledger.counts[kind])

    def lane(self, kinds, chance):
        try:
            while True:
                # Each kind once, then again in another order.
                chance.shuffle(kinds)
                for disturb in kinds:
                    if self.stopping.wait(chance.uniform(1, 5)) or time.monotonic() > self.until:
                        return
                    self.ledger.count(disturb.__name__.replace("_", " "))
                    disturb(chance)
        except BaseException as error:
            self.broken.append(repr(error))

    # Processes of ours.

    def dies(self, process, chance):
        process.kill()
        time.sleep(chance.uniform(0.1, 3))
        self.started(process)

    def started(self, process):
        """A process that cannot start while something is away is started again, as a
        supervisor does."""
        until = time.monotonic() + 90
        while True:
            process.start()
            try:
                process.wait_ready(30)
                return
            except RuntimeError:
                if time.monotonic() > until:
                    raise
                process.kill()
                self.ledger.count("starts that had to be tried again")
                process.starts -= 1
                time.sleep(1)

    def server_dies(self, chance):
        self.dies(chance.choice(self.stack.servers), chance)

    def worker_dies(self, chance):
        self.dies(chance.choice(self.stack.workers), chance)

    def freezes(self, process, seconds):
        process.signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.signal(signal.SIGCONT)

    def worker_freezes(self, chance):
        self.freezes(chance.choice(self.stack.workers), LEASE + chance.uniform(2, 6))

    def server_freezes(self, chance):
        self.freezes(chance.choice(self.stack.servers), chance.uniform(2, 8))

    # What they depend on.

    def database_stops(self, chance):
        self.stack.postgres("stop")
        time.sleep(chance.uniform(1, 8))
        self.stack.postgres("again")

    def store_hangs(self, chance):
        self.freezes(self.stack.store, 20)

    def store_dies(self, chance):
        self.stack.store.kill()
        time.sleep(chance.uniform(5, 20))
        self.stack.store.start()
        self.stack.store.wait_ready()

    def queue_dies(self, chance):
        """It comes back without its messages, and without the queue."""
        self.stack.queue.kill()
        time.sleep(chance.uniform(2, 10))
        self.stack.queue.start()
        self.stack.queue.wait_ready()

    def queue_is_emptied(self, chance):
        queue, url = self.queue()
        for _ in range(5):
            queue.purge_queue(QueueUrl=url)
            time.sleep(chance.uniform(0.2, 1))

    def messages_come_twice(self, chance):
        """Whatever is in the queue for some seconds is there two times more, each for
        itself: the store of a queue that delivers at least once."""
        queue, url = self.queue()
        until = time.monotonic() + chance.uniform(4, 8)
        while time.monotonic() < until:
            taken = queue.receive_message(
                QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=1, WaitTimeSeconds=1
            )
            for message in taken.get("Messages", []):
                for _ in range(2):
                    queue.send_message(QueueUrl=url, MessageBody=message["Body"])
                self.ledger.count("messages doubled")

    def queue(self):
        """The queue, once somebody has made it again."""
        client, until = self.stack.aws("sqs"), time.monotonic() + 60
        while True:
            try:
                return client, client.get_queue_url(QueueName=self.stack.queue_name)["QueueUrl"]
            except client.exceptions.QueueDoesNotExist:
                if time.monotonic() > until:
                    raise
                time.sleep(0.5)
