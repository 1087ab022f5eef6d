"""A ROS 2 node that lets an exported agent drive a robot: `python ros_node.py FOLDER`. Needs rclpy and `loop.py`.

It reads observations (std_msgs/Float32MultiArray) and publishes actions (Float32MultiArray) at a fixed rate: the
control period of the environment in which the team was trained. The topic `start` (std_msgs/Empty) begins an episode.
"""

import sys

import rclpy
from loop import Agent
from rclpy.node import Node
from std_msgs.msg import Empty, Float32MultiArray

PERIOD_S = 0.1


class PolicyNode(Node):
    """Publishes an action for the newest observation at each tick."""

    def __init__(self, folder: str) -> None:
        super().__init__("policy")
        self.agent = Agent(folder)
        self.observation = None
        self.is_first = True
        self.create_subscription(Float32MultiArray, "observation", self.observe, 1)
        self.create_subscription(Empty, "start", self.start, 1)
        self.publisher = self.create_publisher(Float32MultiArray, "action", 1)
        self.create_timer(PERIOD_S, self.tick)

    def observe(self, message: Float32MultiArray) -> None:
        """Keep the newest observation."""
        self.observation = list(message.data)

    def start(self, message: Empty) -> None:
        """Begin an episode: the memory starts at zero, and old observations no longer count."""
        self.is_first = True
        self.observation = None

    def tick(self) -> None:
        """Act on the newest observation; without any, the robot waits."""
        if self.observation is None:
            return
        action = self.agent.act(self.observation, is_first=self.is_first)
        self.is_first = False
        self.publisher.publish(Float32MultiArray(data=[float(x) for x in action.reshape(-1)]))


if __name__ == "__main__":
    rclpy.init()
    rclpy.spin(PolicyNode(sys.argv[1]))
